//! Numbers on a device, and memory that is used again.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    device::{Device, DeviceError},
    offload::Hosted,
    rest::Away,
};

/// Memory that nobody uses at the moment, by its size. A step asks for the same sizes again and again, and asking the
/// driver makes a GPU wait.
#[derive(Debug)]
pub(crate) struct Pool<D: Device> {
    device: Arc<D>,
    idle: Mutex<BTreeMap<usize, Vec<D::Memory>>>,
}

impl<D: Device> Pool<D> {
    pub(crate) fn new(device: Arc<D>) -> Arc<Self> {
        Arc::new(Self { device, idle: Mutex::default() })
    }

    pub(crate) fn device(&self) -> &D {
        &self.device
    }

    /// Memory for `bytes` bytes of any contents.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Result<Lent<D>, DeviceError> {
        let bytes = bytes.max(4);
        let size = if self.device.keeps_memory() { size_class(bytes) } else { bytes };
        let idle = self.idle().get_mut(&size).and_then(Vec::pop);
        let memory = match idle {
            Some(memory) => memory,
            None => self.device.allocate(size).or_else(|error| match error {
                // what is kept for others may be what is missing
                DeviceError::OutOfMemory { .. } if self.trim() => self.device.allocate(size),
                other => Err(other),
            })?,
        };
        Ok(Lent { memory: Some(memory), size, pool: Arc::clone(self) })
    }

    /// Gives what nobody uses back to the device; whether there was any.
    pub(crate) fn trim(&self) -> bool {
        !std::mem::take(&mut *self.idle()).is_empty()
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, BTreeMap<usize, Vec<D::Memory>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The size that memory for so many bytes really has, so that similar requests share: at most an eighth more.
fn size_class(bytes: usize) -> usize {
    let step = (bytes.next_power_of_two() / 16).max(256);
    bytes.next_multiple_of(step)
}

/// Memory that goes back to its pool when it is dropped.
#[derive(Debug)]
pub(crate) struct Lent<D: Device> {
    /// Always there until it is dropped.
    memory: Option<D::Memory>,
    size: usize,
    pool: Arc<Pool<D>>,
}

impl<D: Device> Lent<D> {
    pub(crate) fn memory(&self) -> &D::Memory {
        self.memory.as_ref().expect("memory is there until it is dropped")
    }
}

impl<D: Device> Drop for Lent<D> {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take().filter(|_| self.pool.device.keeps_memory()) {
            self.pool.idle().entry(self.size).or_default().push(memory);
        }
    }
}

/// Numbers on a device, or at rest on the host.
pub struct Buffer<D: Device> {
    pub(crate) place: Place<D>,
    pub(crate) len: usize,
}

/// Where numbers are.
pub(crate) enum Place<D: Device> {
    Device(Lent<D>),
    /// On the device, and of every number the upper half: the lower half is zero. What is not trained, and is bf16.
    Half(Lent<D>),
    /// What the optimiser alone takes, all the time on the host.
    Host(Hosted<D>),
    /// Put away on the host for a while.
    Away(Away<D>),
}

impl<D: Device> Buffer<D> {
    /// # Panics
    ///
    /// When the numbers are at rest on the host, or halves: few operations take those.
    pub(crate) fn memory(&self) -> &D::Memory {
        match &self.place {
            Place::Device(lent) => lent.memory(),
            Place::Half(_) => {
                panic!("halves are an operand of products with weights and of copied rows alone")
            }
            Place::Host(_) => panic!("numbers at rest are an operand of the optimiser alone"),
            Place::Away(_) => panic!("numbers that were put away are fetched before they are used"),
        }
    }
}

impl<D: Device> fmt::Debug for Buffer<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Device(lent) => write!(f, "{} numbers on {}", self.len, lent.pool.device.name()),
            Place::Half(lent) => write!(f, "{} halves on {}", self.len, lent.pool.device.name()),
            Place::Host(_) => write!(f, "{} numbers at rest on the host", self.len),
            Place::Away(_) => write!(f, "{} numbers put away on the host", self.len),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_classes_waste_at_most_an_eighth() {
        for bytes in (1..4000).chain([65_536, 65_537, 1_000_003, (1 << 30) + 1]) {
            let size = size_class(bytes);
            assert!(size >= bytes && size - bytes <= (bytes / 8).max(255), "{bytes} in {size}");
        }
    }
}
