//! Telling whoever watches how far long work is.

/// What progress is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Entries of a table.
    Entries,
    /// Packs.
    Packs,
    /// Files.
    Files,
}

/// Somebody who watches. Calls come from any thread, many of them.
pub trait Progress: Sync {
    /// A piece of work begins; the one before has ended.
    fn begin(&self, what: &'static str, total: u64, unit: Unit);
    /// There is so much more to do than was said at the beginning.
    fn grow(&self, _by: u64) {}
    /// So much more is done.
    fn advance(&self, by: u64);
    /// Everything has ended.
    fn end(&self);
}

/// Nobody watches.
impl Progress for () {
    fn begin(&self, _: &'static str, _: u64, _: Unit) {}
    fn advance(&self, _: u64) {}
    fn end(&self) {}
}
