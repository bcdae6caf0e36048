//! Failures that a test wants.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use talkoot_cuda::device::DeviceError;

/// What is to go wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The device has room for so many bytes at a time.
    Room {
        /// Bytes of all memory together.
        bytes: usize,
    },
    /// From the launch of this number on, counted from 0, every call fails with what a driver says of a lost GPU.
    LostAt {
        /// The launch.
        launch: u64,
    },
}

/// What goes wrong, and what happened so far.
#[derive(Debug, Default)]
pub struct Faults {
    wanted: Mutex<Vec<Fault>>,
    launches: AtomicU64,
    used: AtomicU64,
    products: AtomicU64,
}

/// What NVIDIA's driver says when a GPU falls off its bus.
const LOST: &str = "CUDA_ERROR_LAUNCH_FAILED: unspecified launch failure";

impl Faults {
    /// From now on this goes wrong too.
    pub fn add(&self, fault: Fault) {
        self.wanted().push(fault);
    }

    /// Launches so far.
    pub fn launches(&self) -> u64 {
        self.launches.load(Ordering::SeqCst)
    }

    /// Products that the library did so far.
    pub fn products(&self) -> u64 {
        self.products.load(Ordering::SeqCst)
    }

    pub(crate) fn multiplied(&self) {
        self.products.fetch_add(1, Ordering::SeqCst);
    }

    fn wanted(&self) -> std::sync::MutexGuard<'_, Vec<Fault>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Any call.
    pub(crate) fn call(&self) -> Result<(), DeviceError> {
        let launches = self.launches();
        let lost = |fault: &Fault| matches!(*fault, Fault::LostAt { launch } if launches > launch);
        if self.wanted().iter().any(lost) {
            return Err(DeviceError::Failed { reason: LOST.into() });
        }
        Ok(())
    }

    /// A launch.
    pub(crate) fn launch(&self) -> Result<(), DeviceError> {
        self.launches.fetch_add(1, Ordering::SeqCst);
        self.call()
    }

    /// Memory that is asked for.
    pub(crate) fn take(&self, bytes: usize) -> Result<(), DeviceError> {
        self.call()?;
        let used = self.used.fetch_add(bytes as u64, Ordering::SeqCst) + bytes as u64;
        let full = |fault: &Fault| matches!(*fault, Fault::Room { bytes } if used > bytes as u64);
        if self.wanted().iter().any(full) {
            self.give_back(bytes);
            return Err(DeviceError::OutOfMemory { bytes });
        }
        Ok(())
    }

    /// Memory that is no longer used.
    pub(crate) fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes as u64, Ordering::SeqCst);
    }
}
