//! The page: one file that loads nothing, with a script of its own that keeps the verdicts.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use serde::Serialize;
use sha2::{Digest, Sha256};
use talkoot_dataset::{
    ListReader, Progress, Roots, Sample, chat::Role, inspect::escaped, progress::Unit, sample::list::read_at,
};

use super::{
    MAX_SAMPLES, ReviewError,
    draw::{self, OfSource},
    picture, read_error, write_error,
};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Characters of a turn that are shown.
const TURN_CHARACTERS: usize = 6_000;
/// Turns of a sample that are shown.
const TURNS: usize = 40;
/// Pictures of a sample that are shown.
const PICTURES: usize = 8;

/// What to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportOptions {
    /// The list that samples are drawn from.
    pub list: PathBuf,
    /// How many.
    pub samples: usize,
    /// Sets the draw.
    pub seed: u64,
    /// Most bytes of all pictures in the page; those beyond are only named.
    pub picture_bytes: u64,
    /// Where the page goes.
    pub out: PathBuf,
}

/// What is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// Samples of the page.
    pub samples: u64,
    /// Samples of the list.
    pub of: u64,
    /// Samples of each source, in the page and in the list.
    pub sources: Vec<SourceShare>,
    /// Pictures that are not shown, for their bytes or because they can't be read.
    pub missing_pictures: u64,
    /// Bytes of the page.
    pub bytes: u64,
}

/// How much of a source is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceShare {
    /// Its name.
    pub source: String,
    /// Samples in the page.
    pub samples: u64,
    /// Samples in the list.
    pub of: u64,
}

/// Draws samples of a list, from each source as many, and writes the page.
///
/// # Errors
///
/// [`ReviewError`] when an option is out of bounds, the list cannot be read, or the page cannot be written.
pub fn export(options: &ExportOptions, progress: &dyn Progress) -> Result<Exported, ReviewError> {
    if !(1..=MAX_SAMPLES).contains(&options.samples) {
        let must = format!("from 1 to {MAX_SAMPLES}");
        return Err(ReviewError::Option { option: "samples", got: options.samples as u64, must });
    }
    let sources = draw::draw(&options.list, options.samples, options.seed, progress)?;
    let total = sources.iter().map(|source| source.drawn.len()).sum();
    if total == 0 {
        return Err(ReviewError::Empty { list: options.list.clone() });
    }
    progress.begin("showing", total as u64, Unit::Entries);
    let roots = ListReader::open(&options.list)?.roots().clone();
    let mut page =
        Page { roots, room: options.picture_bytes, missing: 0, shown: 0, total, cards: String::new() };
    let mut file = File::open(&options.list).map_err(read_error(&options.list))?;
    let mut ids = blake3::Hasher::new_derive_key("talkoot review page v1");
    for source in &sources {
        for drawn in &source.drawn {
            let sample = read_at(&mut file, &options.list, drawn.offset)?;
            ids.update(sample.id.as_bytes());
            page.card(&sample);
            progress.advance(1);
        }
    }
    let name = ids.finalize().to_hex()[..16].to_owned();
    let text = page.finish(&name);
    write_whole(&options.out, text.as_bytes())?;
    progress.end();
    let share =
        |OfSource { source, of, drawn }: OfSource| SourceShare { source, samples: drawn.len() as u64, of };
    let sources: Vec<SourceShare> = sources.into_iter().map(share).collect();
    Ok(Exported {
        samples: total as u64,
        of: sources.iter().map(|source| source.of).sum(),
        sources,
        missing_pictures: page.missing,
        bytes: text.len() as u64,
    })
}

fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), ReviewError> {
    let put = || {
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let mut file = File::create(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    put().map_err(write_error(path))
}

struct Page {
    roots: Roots,
    /// Bytes of pictures that still fit.
    room: u64,
    missing: u64,
    shown: usize,
    total: usize,
    cards: String,
}

impl Page {
    fn card(&mut self, sample: &Sample) {
        self.shown += 1;
        let (number, total, id) = (self.shown, self.total, sample.id);
        // Writing to a String cannot fail.
        let _ = write!(
            self.cards,
            "<article id=\"s{number}\" data-id=\"{id}\" tabindex=\"-1\" aria-label=\"Sample {number} of {total}\">\n\
             <header><b>{number}</b> of {total} <span class=\"given\"></span></header>\n<div class=\"pictures\">"
        );
        for (at, reference) in sample.pictures.iter().enumerate() {
            self.picture(at, &picture::data_address(reference, &self.roots), &reference.name());
        }
        self.cards.push_str("</div>\n<div class=\"talk\">");
        for message in sample.messages.iter().take(TURNS) {
            let role = match message.role {
                Role::System => "system",
                Role::User => "user",
                Role::Assistant => "assistant",
            };
            let _ =
                write!(self.cards, "<p class=\"{role}\"><b>{role}</b> {}</p>", escaped(&cut(&message.text)));
        }
        if let Some(more) = sample.messages.len().checked_sub(TURNS).filter(|&more| more > 0) {
            let _ = write!(self.cards, "<p><small>and {more} more turns</small></p>");
        }
        let _ = write!(
            self.cards,
            "</div>\n<footer><small>{}</small>\n<div class=\"verdict\" role=\"group\" aria-label=\"Verdict on sample \
             {number}\"><button type=\"button\" data-verdict=\"keep\" aria-pressed=\"false\">Keep <kbd>k</kbd></button>\
             <button type=\"button\" data-verdict=\"drop\" aria-pressed=\"false\">Drop <kbd>d</kbd></button></div>\
             </footer></article>\n",
            escaped(&about(sample))
        );
    }

    fn picture(&mut self, at: usize, picture: &Result<String, String>, name: &str) {
        let fault = match picture {
            Ok(address) if at < PICTURES && address.len() as u64 <= self.room => {
                self.room -= address.len() as u64;
                let alt = escaped(&format!("Picture {} of sample {}: {name}", at + 1, self.shown));
                let _ = write!(self.cards, "<img alt=\"{alt}\" src=\"{address}\">");
                return;
            }
            Ok(_) => format!("picture {name} is not shown, the page would get too large"),
            Err(reason) => reason.clone(),
        };
        self.missing += 1;
        let _ = write!(self.cards, "<p class=\"fault\">{}</p>", escaped(&fault));
    }

    fn finish(&self, name: &str) -> String {
        let hash = data_encoding::BASE64.encode(&Sha256::digest(SCRIPT.as_bytes()));
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; \
             style-src 'unsafe-inline'; script-src 'sha256-{hash}'\">\n\
             <meta name=\"viewport\" content=\"width=device-width\"><title>Review of {total} samples</title>\n\
             <style>\n{STYLE}</style></head>\n<body data-page=\"{name}\" data-samples=\"{total}\">\n\
             <div class=\"bar\"><progress max=\"{total}\" value=\"0\" aria-label=\"Samples judged\"></progress>\n\
             <p id=\"status\" role=\"status\">Nothing is judged yet.</p>\n\
             <button type=\"button\" id=\"save\">Save verdicts</button></div>\n<main>\n<h1>Keep or drop?</h1>\n\
             <p>Keys: <kbd>k</kbd> keep, <kbd>d</kbd> drop, <kbd>u</kbd> take back, <kbd>j</kbd> or <kbd>→</kbd> next, \
             <kbd>b</kbd> or <kbd>←</kbd> back, <kbd>n</kbd> next without a verdict, <kbd>s</kbd> save. Verdicts stay in \
             this browser until you save them as a file.</p>\n<noscript><p class=\"fault\">This page needs its script to \
             keep verdicts.</p></noscript>\n{cards}</main>\n<script>{SCRIPT}</script>\n</body></html>\n",
            total = self.total,
            cards = self.cards,
        )
    }
}

/// A text, or its beginning and how much is left out.
fn cut(text: &str) -> String {
    match text.char_indices().nth(TURN_CHARACTERS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{} … and {} more characters", &text[..end], text[end..].chars().count()),
    }
}

fn about(sample: &Sample) -> String {
    let origin = &sample.origin;
    let id = origin.id.as_ref().map_or_else(String::new, |id| format!(" ({id})"));
    let licence = origin.licence.as_deref().unwrap_or("no licence given");
    let mut about = format!("{}, record {}{id} of {}; {licence}", origin.source, origin.record, origin.file);
    for (name, score) in [("quality", sample.quality), ("difficulty", sample.difficulty)] {
        if let Some(score) = score {
            let _ = write!(about, "; {name} {score:.2}");
        }
    }
    about
}
