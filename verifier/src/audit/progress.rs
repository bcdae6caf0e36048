//! How far an audit has come, for whoever waits for it.

/// What is being checked, and how much of it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// What is being checked.
    pub doing: String,
    /// Entries of the log that are done with, and everything that hangs on them.
    pub done: u64,
    /// Entries of the log; 0 while that is not known.
    pub of: u64,
}

/// Hears of progress.
pub type Listener<'a> = dyn FnMut(&Progress) + 'a;

impl Progress {
    pub(super) fn beginning(doing: &str) -> Self {
        Self { doing: doing.to_owned(), done: 0, of: 0 }
    }
}
