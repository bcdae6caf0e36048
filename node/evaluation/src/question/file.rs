//! Files of questions: JSONL, one a line, or the LLaVA layout of held-out records.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek},
    path::{Path, PathBuf},
};

use talkoot_dataset::{
    Roots,
    heldout::{self, HeldOutError},
};

use super::{BadLine, Question, line};
use crate::metric::Metric;

/// Longest line, in bytes.
pub const MAX_LINE_BYTES: u64 = 1 << 20;

/// What to take from a file.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// Folder of the pictures; that of the file when left out.
    pub pictures: Option<PathBuf>,
    /// Scores every question with this metric, whatever it says itself.
    pub metric: Option<Metric>,
    /// Takes only so many questions from the beginning.
    pub limit: Option<usize>,
}

/// What stands in a file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QuestionFile {
    /// Questions that can be asked, in the order of the file.
    pub questions: Vec<Question>,
    /// Lines that cannot.
    pub bad: Vec<BadLine>,
}

/// Why a file cannot be read at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file system refused.
    #[error("no access to {}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A line is too long for a question.
    #[error("line {line} of {} is longer than {MAX_LINE_BYTES} bytes: is this a file of questions?", path.display())]
    LongLine {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The file is in the LLaVA layout and cannot be used.
    #[error(transparent)]
    HeldOut(#[from] HeldOutError),
}

/// Reads the questions in `path`.
///
/// A file that begins with `[` is taken for held-out records in the LLaVA layout, whose last turn is the right answer;
/// each is scored with [`Metric::Literal`] unless the options say otherwise. Every other file is JSONL as described in
/// `docs/evaluation.md`; blank lines are left out and counted.
///
/// # Errors
///
/// [`FileError`] when the file or the picture folder cannot be read, or a line is too long. Lines that cannot be used
/// are no error: they are listed.
pub fn read(path: &Path, options: &ReadOptions) -> Result<QuestionFile, FileError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| FileError::Io { path, source }
    };
    let beside = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = options.pictures.as_deref().unwrap_or(beside);
    let mut roots = Roots::new();
    roots.add(line::PICTURES, folder).map_err(io(folder))?;
    let mut file = BufReader::new(File::open(path).map_err(io(path))?);
    if is_array(&mut file).map_err(io(path))? {
        return held_out(path, folder, options);
    }
    file.rewind().map_err(io(path))?;
    let limit = options.limit.unwrap_or(usize::MAX);
    let mut found = QuestionFile::default();
    let mut names = BTreeMap::new();
    for line in 1.. {
        let mut text = Vec::new();
        file.by_ref().take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut text).map_err(io(path))?;
        if text.is_empty() || found.questions.len() + found.bad.len() >= limit {
            break;
        }
        if text.len() as u64 > MAX_LINE_BYTES {
            return Err(FileError::LongLine { path: path.to_owned(), line });
        }
        if text.trim_ascii().is_empty() {
            continue;
        }
        let question = line::parse(&text, line, &roots, options.metric).and_then(|question| {
            match names.insert(question.id.clone(), line) {
                Some(other) => Err(format!("the id {:?} is that of line {other}", question.id)),
                None => Ok(question),
            }
        });
        match question {
            Ok(question) => found.questions.push(question),
            Err(reason) => found.bad.push(BadLine { line, reason }),
        }
    }
    Ok(found)
}

/// Whether the first character that is no blank opens an array.
fn is_array(file: &mut impl BufRead) -> io::Result<bool> {
    let start = file.fill_buf()?;
    Ok(start.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'['))
}

fn held_out(path: &Path, folder: &Path, options: &ReadOptions) -> Result<QuestionFile, FileError> {
    let questions = heldout::load(path, folder)?.into_iter().zip(1..);
    let questions = questions.map(|(question, number)| Question::held_out(question, number, options.metric));
    Ok(QuestionFile {
        questions: questions.take(options.limit.unwrap_or(usize::MAX)).collect(),
        bad: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str, options: &ReadOptions) -> Result<QuestionFile, FileError> {
        read_named("q.jsonl", text, options)
    }

    fn read_named(name: &str, text: &str, options: &ReadOptions) -> Result<QuestionFile, FileError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        read(&path, options)
    }

    #[test]
    fn bad_lines_are_numbered_and_the_others_are_kept() {
        let text = concat!(
            "{\"question\": \"a?\", \"answer\": \"x\", \"id\": \"one\"}\n",
            "\n",
            "nonsense\n",
            "{\"question\": \"b?\", \"answer\": \"x\", \"id\": \"one\"}\n",
            "{\"question\": \"c?\", \"answer\": \"x\"}",
        );
        let found = read_text(text, &ReadOptions::default()).unwrap();
        let lines: Vec<usize> = found.questions.iter().map(|question| question.line).collect();
        assert_eq!(lines, [1, 5]);
        assert_eq!(found.bad.iter().map(|bad| bad.line).collect::<Vec<_>>(), [3, 4]);
        assert!(
            found.bad[1].to_string().contains("line 4: the id \"one\" is that of line 1"),
            "{}",
            found.bad[1]
        );
        let limited = read_text(text, &ReadOptions { limit: Some(2), ..ReadOptions::default() }).unwrap();
        assert_eq!((limited.questions.len(), limited.bad.len()), (1, 1));
    }

    #[test]
    fn an_empty_file_holds_nothing_and_an_endless_line_is_refused() {
        assert_eq!(read_text("", &ReadOptions::default()).unwrap(), QuestionFile::default());
        assert_eq!(read_text("\n \n", &ReadOptions::default()).unwrap(), QuestionFile::default());
        let error = read_text(&"x".repeat(1 << 20 | 1), &ReadOptions::default()).unwrap_err();
        assert!(matches!(error, FileError::LongLine { line: 1, .. }), "{error}");
        let error = read(Path::new("nowhere.jsonl"), &ReadOptions::default()).unwrap_err();
        assert!(error.to_string().contains("nowhere.jsonl"), "{error}");
    }

    #[test]
    fn held_out_records_are_read_too() {
        let text = r#"
            [{"id": "h1", "kind": "colour", "conversations": [
                {"from": "human", "value": "Which?"}, {"from": "gpt", "value": "red"}]}]"#;
        let found = read_named("h.json", text, &ReadOptions::default()).unwrap();
        let question = &found.questions[0];
        assert_eq!((question.id.as_str(), question.kind.as_deref()), ("h1", Some("colour")));
        assert_eq!(
            (question.metric, question.answers.as_slice()),
            (Metric::Literal, &["red".to_owned()][..])
        );
        let options = ReadOptions { metric: Some(Metric::CaptionLoss), ..ReadOptions::default() };
        assert_eq!(read_named("h.json", text, &options).unwrap().questions[0].metric, Metric::CaptionLoss);
        assert!(matches!(read_named("h.json", "[{}]", &ReadOptions::default()), Err(FileError::HeldOut(_))));
    }
}
