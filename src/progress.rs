//! A bar for long work: how far, how fast, how long still. Silent where there is no terminal.

use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressStyle};
use talkoot_dataset::{Progress, progress::Unit};

/// A bar that follows the work of the data set library.
#[derive(Debug, Default)]
pub(crate) struct Bar(Mutex<Option<ProgressBar>>);

impl Bar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn replace(&self, with: Option<ProgressBar>) {
        let mut bar = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = std::mem::replace(&mut *bar, with) {
            old.finish_and_clear();
        }
    }
}

impl Progress for Bar {
    fn begin(&self, what: &'static str, total: u64, unit: Unit) {
        let amount = match unit {
            Unit::Bytes => "{bytes} of {total_bytes}, {bytes_per_sec}",
            Unit::Entries => "{human_pos} of {human_len} entries, {per_sec}",
            Unit::Packs => "{human_pos} of {human_len} packs, {per_sec}",
            Unit::Files => "{human_pos} of {human_len} files, {per_sec}",
        };
        let template = format!("{{msg:<10}} {{wide_bar}} {amount}, {{eta}} left");
        let bar = ProgressBar::new(total).with_message(what);
        // The template is ours; were it wrong, the plain bar would do.
        self.replace(Some(match ProgressStyle::with_template(&template) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }));
    }

    fn grow(&self, by: u64) {
        if let Some(bar) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            bar.inc_length(by);
        }
    }

    fn advance(&self, by: u64) {
        if let Some(bar) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            bar.inc(by);
        }
    }

    fn end(&self) {
        self.replace(None);
    }
}
