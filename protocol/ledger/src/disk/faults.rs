//! Faults on demand, for tests: the n-th change to the disk fails, before or after it took effect, and
//! so does every later one, as if the process had died there.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// The change happens and an error is told nevertheless.
    After,
    /// Of a write, half happens; anything else never happens.
    Torn,
}

#[derive(Debug, Default)]
struct Plan {
    steps: u64,
    fail: Option<(u64, When)>,
    trace: Vec<(&'static str, String)>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Faults(Arc<Mutex<Plan>>);

impl Faults {
    pub(crate) fn at(step: u64, when: When) -> Self {
        Self(Arc::new(Mutex::new(Plan { fail: Some((step, when)), ..Plan::default() })))
    }

    /// Every change so far: what was done to which file.
    pub(crate) fn trace(&self) -> Vec<(&'static str, String)> {
        self.0.lock().unwrap().trace.clone()
    }

    pub(super) fn is_next_torn(&self) -> bool {
        let plan = self.0.lock().unwrap();
        plan.fail == Some((plan.steps, When::Torn))
    }

    pub(super) fn before(&self, op: &'static str, path: &Path) -> io::Result<()> {
        let mut plan = self.0.lock().unwrap();
        let step = plan.steps;
        plan.steps += 1;
        plan.trace.push((op, path.display().to_string()));
        match plan.fail {
            Some((at, When::Torn)) if step >= at => Err(injected()),
            Some((at, When::After)) if step > at => Err(injected()),
            _ => Ok(()),
        }
    }

    pub(super) fn after(&self) -> io::Result<()> {
        let plan = self.0.lock().unwrap();
        match plan.fail {
            Some((at, When::After)) if plan.steps > at => Err(injected()),
            _ => Ok(()),
        }
    }
}

fn injected() -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, "injected by a test")
}
