//! Whether model, training, pictures and chat text are those of the published implementation, number by number.
//!
//! ```text
//! folder of reference numbers --check--> Report: a row per file and kind, measured error against limit
//!   checkpoint/   config and weights, any configuration      cases/       inputs, values inside, every gradient
//!   train/        five AdamW steps in several variants       preprocess/  sizes, resized pictures, patches
//!   chat/         rendered text, what is learned of it
//! ```
//! The numbers come from elsewhere: from the released code, run once, with limits for another f32 implementation. Every
//! file of the folder is looked at; one that is not known is an error, so that nothing is left out silently.
//!
//! The model under test is a [`Subject`]: the trainer's model on a processor, or its plain reference on candle.

mod cases;
mod chat;
mod error;
mod files;
mod preprocess;
mod report;
mod statistics;
mod subject;
mod train;

use std::path::Path;

pub use self::{
    error::CheckError,
    report::{Report, Row},
    subject::{Fast, Plain, Subject},
};

/// Checks everything in `folder` against `subject`.
///
/// # Errors
///
/// [`CheckError`] when a file is missing, damaged or unknown. Numbers that are off are no error but rows of the report
/// that did not pass.
pub fn check(folder: &Path, subject: &dyn Subject) -> Result<Report, CheckError> {
    let mut report = Report::default();
    let checkpoint = files::Checkpoint::read(folder)?;
    cases::check(folder, &checkpoint, subject, &mut report)?;
    train::check(folder, &checkpoint, &mut report)?;
    preprocess::check(folder, &mut report)?;
    chat::check(folder, &mut report)?;
    Ok(report)
}
