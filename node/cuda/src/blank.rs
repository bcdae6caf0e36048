//! A device without numbers: it hands out memory and forgets what is asked of it. What the very code that trains takes of a
//! GPU is found by running that code on this device, in a slab.

#![allow(unsafe_code, reason = "a launch does nothing")]

use talkoot_trainer::{
    model::Keep,
    moments::MomentFormat,
    plan::{Class, PlanError, SLICE_WORDS, Task},
};

use crate::{
    Cuda,
    device::{Argument, Device, DeviceError, Lane, Shape},
    fast::{OLDEST_CAPABILITY, TensorCores},
    kernels::Kernel,
    slab::Slab,
};

/// How a task is trained on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// In which numbers.
    pub class: Class,
    /// What is kept for backward.
    pub keep: Keep,
    /// How moments are held.
    pub moments: MomentFormat,
    /// Whether they rest on the host.
    pub offload: bool,
}

/// Bytes that a slab must have for training a task in this way, to the byte: the highest place that two steps reach.
///
/// # Errors
///
/// [`PlanError`] when packs are too short to learn from.
pub fn slab_bytes(task: &Task<'_>, way: Way) -> Result<u64, PlanError> {
    let refused = |reason| {
        PlanError::Model(
            talkoot_trainer::backend::BackendError::Device { operation: "planning", reason }.into(),
        )
    };
    let failed = |error: DeviceError| refused(error.to_string());
    let slab = Slab::reserve(Blank, 1 << 62).map_err(failed)?;
    let cuda =
        if way.offload { Cuda::offloading(slab, SLICE_WORDS).map_err(failed)? } else { Cuda::new(slab) };
    match way.class {
        Class::Exact => {
            task.play(&cuda, way.keep, way.moments)?;
            Ok(cuda.device().highest())
        }
        Class::Fast => {
            let class = TensorCores::of(cuda.device()).map_err(|missing| refused(missing.to_string()))?;
            let fast = cuda.in_class(class);
            task.play(&fast, way.keep, way.moments)?;
            Ok(fast.device().highest())
        }
    }
}

/// The device.
#[derive(Debug, Clone, Copy)]
pub struct Blank;

impl Device for Blank {
    type Memory = ();
    type Pinned = ();
    type Event = ();

    fn name(&self) -> &str {
        "a device without numbers"
    }

    fn capability(&self) -> (u32, u32) {
        OLDEST_CAPABILITY
    }

    fn keeps_memory(&self) -> bool {
        false
    }

    fn allocate(&self, _: usize) -> Result<(), DeviceError> {
        Ok(())
    }

    fn clear(&self, (): &(), _: usize, _: usize) -> Result<(), DeviceError> {
        Ok(())
    }

    fn upload(&self, _: &[u8], (): &(), _: usize) -> Result<(), DeviceError> {
        Ok(())
    }

    fn download(&self, (): &(), _: usize, to: &mut [u8]) -> Result<(), DeviceError> {
        to.fill(0);
        Ok(())
    }

    unsafe fn launch(&self, _: Kernel, _: Shape, _: &[Argument<'_, ()>]) -> Result<(), DeviceError> {
        Ok(())
    }

    fn synchronise(&self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn pin(&self, _: usize) -> Result<(), DeviceError> {
        Ok(())
    }

    fn read_pinned(&self, (): &(), _: usize, to: &mut [u8]) -> Result<(), DeviceError> {
        to.fill(0);
        Ok(())
    }

    fn write_pinned(&self, _: &[u8], (): &(), _: usize) -> Result<(), DeviceError> {
        Ok(())
    }

    fn copy_to_device(&self, (): &(), _: usize, (): &(), _: usize, _: usize) -> Result<(), DeviceError> {
        Ok(())
    }

    fn copy_to_host(&self, (): &(), _: usize, (): &(), _: usize, _: usize) -> Result<(), DeviceError> {
        Ok(())
    }

    fn event(&self) -> Result<(), DeviceError> {
        Ok(())
    }

    fn record(&self, (): &(), _: Lane) -> Result<(), DeviceError> {
        Ok(())
    }

    fn wait(&self, _: Lane, (): &()) -> Result<(), DeviceError> {
        Ok(())
    }
}
