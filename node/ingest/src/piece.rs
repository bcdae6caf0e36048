//! A piece: what comes of one file of records, whole or not there.
//!
//! ```text
//! <out>/<name>.work/job.json               the fingerprint of the options, and the files of records
//!                  /<number>.samples       the samples of a file, as a list
//!                  /<number>.rejects       its rejects
//!                  /<number>.done          its counts: the piece is whole
//! <out>/<name>.pictures/<number>.tar       the pictures that could not be referred to in place
//! ```

use std::{io, path::PathBuf};

use talkoot_dataset::{
    ListWriter, PictureRef, Reject, RejectKind, Sample,
    ingest::{Fault, Record, picture_file},
    preprocess::DecodeLimits,
    sample::{Origin, RejectWriter},
    work::put_json,
};

use crate::{
    IngestError, SourceFile,
    error::write_error,
    job::Job,
    report::Counts,
    store::Store,
    video::{self, Clip},
};

/// A picture of a record, as its file has it.
#[derive(Debug)]
pub(crate) enum Attached<'a> {
    /// A file under the folder of pictures.
    Named(String),
    /// A stretch of an archive.
    InPlace(PictureRef),
    /// Bytes that go to the store.
    Bytes(&'a [u8]),
}

/// Why a record gives no sample.
pub(crate) enum Trouble {
    /// The record is a reject.
    Fault(Fault),
    /// The work stops.
    Stop(IngestError),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<IngestError> for Trouble {
    fn from(error: IngestError) -> Self {
        Self::Stop(error)
    }
}

/// What comes of one file of records, while it is read.
pub(crate) struct Piece<'a> {
    pub(crate) job: &'a Job<'a>,
    pub(crate) file: &'a SourceFile,
    number: usize,
    list: ListWriter,
    rejects: RejectWriter,
    store: Option<Store>,
    counts: Counts,
}

/// The name of a file of a piece.
pub(crate) fn piece_name(number: usize, what: &str) -> String {
    format!("{number:07}.{what}")
}

impl<'a> Piece<'a> {
    pub(crate) fn create(job: &'a Job<'a>, number: usize, file: &'a SourceFile) -> Result<Self, IngestError> {
        let list = job.work_file(&piece_name(number, "samples"));
        let rejects = job.work_file(&piece_name(number, "rejects"));
        Ok(Self {
            job,
            file,
            number,
            list: ListWriter::create(&list, &job.roots).map_err(write_error(&list))?,
            rejects: RejectWriter::create(&rejects).map_err(write_error(&rejects))?,
            store: None,
            counts: Counts::default(),
        })
    }

    /// Counts members that are neither pictures nor texts.
    pub(crate) const fn unused(&mut self, members: u64) {
        self.counts.unused += members;
    }

    /// Takes a record: the sample that it gives, or why it gives none.
    pub(crate) fn take(
        &mut self,
        id: Option<String>,
        make: impl FnOnce(&mut Self, Origin) -> Result<Sample, Trouble>,
    ) -> Result<(), IngestError> {
        let origin = Origin {
            source: self.file.source.clone(),
            file: self.file.name.clone(),
            record: self.counts.records,
            id,
            licence: self.job.options.licence.clone(),
        };
        match make(self, origin.clone()) {
            Ok(sample) => {
                self.counts.samples += 1;
                self.counts.pictures += sample.pictures.len() as u64;
                let path = self.job.work_file(&piece_name(self.number, "samples"));
                self.list.write(&sample).map_err(write_error(&path))?;
            }
            Err(Trouble::Fault((kind, reason))) => {
                *self.counts.rejects.entry(kind).or_default() += 1;
                let path = self.job.work_file(&piece_name(self.number, "rejects"));
                self.rejects.write(&Reject::new(origin, kind, reason)).map_err(write_error(&path))?;
            }
            Err(Trouble::Stop(error)) => return Err(error),
        }
        self.counts.records += 1;
        Ok(())
    }

    /// Takes a record that is refused.
    pub(crate) fn refuse(&mut self, id: Option<String>, fault: Fault) -> Result<(), IngestError> {
        self.take(id, |_, _| Err(fault.into()))
    }

    /// Takes the rest of a damaged file: one reject, whatever stood there.
    pub(crate) fn damaged(&mut self, reason: impl ToString) -> Result<(), IngestError> {
        self.refuse(
            None,
            (RejectKind::DamagedFile, format!("the file is damaged from here on: {}", reason.to_string())),
        )
    }

    /// The sample of a record with these pictures; the videos are those that it names and `clips`.
    pub(crate) fn sample(
        &mut self,
        origin: Origin,
        mut record: Record,
        pictures: Vec<Attached<'_>>,
        mut clips: Vec<Clip>,
    ) -> Result<Sample, Trouble> {
        record.implied |= self.job.options.place_pictures;
        // Clips stand for videos that are attached, not named.
        record.videos.extend(clips.iter().map(|clip| clip.name.clone()));
        record.place(pictures.len());
        // Before anything is looked for or stored: what is wrong with the text needs no picture to be told.
        record.check(pictures.len())?;
        let pictures =
            pictures.into_iter().map(|picture| self.picture(picture)).collect::<Result<Vec<_>, _>>()?;
        let named = record.videos.len() - clips.len();
        let named: Vec<Clip> = record.videos[..named]
            .iter()
            .map(|name| Clip::file(&self.job.roots, &self.file.pictures, name))
            .collect::<Result<_, _>>()?;
        clips.splice(0..0, named);
        let videos = clips.iter().map(|clip| self.frames(&origin, clip)).collect::<Result<Vec<_>, _>>()?;
        let pictures = video::unroll(&mut record, pictures, videos);
        Ok(record.into_sample(origin, pictures)?)
    }

    fn picture(&mut self, picture: Attached<'_>) -> Result<PictureRef, Trouble> {
        let place = match picture {
            Attached::Named(path) => picture_file(&self.job.roots, &self.file.pictures, path)?,
            Attached::InPlace(place) => place,
            Attached::Bytes(bytes) => {
                check_length("picture in the table", bytes.len() as u64)?;
                return Ok(self.store(bytes)?);
            }
        };
        check_length(&place.name(), place.bytes)?;
        Ok(place)
    }

    fn frames(&mut self, origin: &Origin, clip: &Clip) -> Result<Vec<PictureRef>, Trouble> {
        let mut frames = Vec::new();
        let (tools, options) = (&self.job.options.tools, &self.job.options.video);
        let outcome = video::read(clip, tools, options, |frame| {
            frames.push(self.store(frame)?);
            Ok(())
        });
        match outcome {
            Ok(()) => Ok(frames),
            Err(video::VideoError::Fault(reason)) => Err((RejectKind::BadVideo, reason).into()),
            Err(video::VideoError::NoProgram { program, reason }) => {
                let (file, record) = (origin.file.clone(), origin.record);
                Err(IngestError::NoFfmpeg { file, record, program, reason }.into())
            }
            Err(video::VideoError::Store(error)) => Err(error.into()),
        }
    }

    fn store(&mut self, picture: &[u8]) -> Result<PictureRef, IngestError> {
        let path = self.job.store_file(&piece_name(self.number, "tar"));
        if self.store.is_none() {
            let (folder, name) = (self.job.store_folder(), piece_name(self.number, "tar"));
            let store = Store::create(&folder, &self.job.store_root, &name);
            self.store = Some(store.map_err(write_error(&path))?);
        }
        let none = || io::Error::other("the store is gone");
        let store = self.store.as_mut().ok_or_else(none).map_err(write_error(&path))?;
        store.add(picture).map_err(write_error(&path))
    }

    /// Bytes of pictures that were stored so far.
    pub(crate) fn stored_bytes(&self) -> u64 {
        self.store.as_ref().map_or(0, Store::bytes)
    }

    /// Makes the piece durable; the counts come last and say that it is whole.
    pub(crate) fn finish(mut self) -> Result<Counts, IngestError> {
        if let Some(store) = self.store {
            let path = self.job.store_file(&piece_name(self.number, "tar"));
            self.counts.stored_bytes = store.finish().map_err(write_error(&path))?;
        }
        let path: PathBuf = self.job.work_file(&piece_name(self.number, "samples"));
        self.list.finish().map_err(write_error(&path))?;
        let path = self.job.work_file(&piece_name(self.number, "rejects"));
        self.rejects.finish().map_err(write_error(&path))?;
        self.counts.check()?;
        put_json(&self.job.work_file(&piece_name(self.number, "done")), &self.counts)?;
        Ok(self.counts)
    }
}

fn check_length(name: &str, bytes: u64) -> Result<(), Fault> {
    let limit = DecodeLimits::default().file_bytes;
    match bytes {
        0 => Err((RejectKind::BadPicture, format!("{name} is empty"))),
        bytes if bytes > limit => {
            Err((RejectKind::BadPicture, format!("{name} has {bytes} bytes, more than the limit of {limit}")))
        }
        _ => Ok(()),
    }
}
