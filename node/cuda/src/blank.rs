//! A device without numbers: it hands out memory and forgets what is asked of it. What the very code that trains takes of a
//! GPU is found by running that code on this device, in a slab.

#![allow(unsafe_code, reason = "a launch does nothing")]

use std::cell::RefCell;

use talkoot_trainer::{
    backend::{Backend, BackendError},
    plan::{Ahead, Class, How, Mark, OnHost, PlanError, SLICE_WORDS, Task},
};

use crate::{
    Cuda, class,
    device::{Argument, Device, DeviceError, Lane, Shape},
    fast::{OLDEST_CAPABILITY, TensorCores},
    kernels::Kernel,
    multiply::{Description, Operands},
    slab::Slab,
};

/// Two steps that can be played without numbers.
pub trait Steps {
    /// Plays them on a device. `mark` hears where they are.
    ///
    /// # Errors
    ///
    /// [`PlanError`] when the device has no room, or packs are too short to learn from.
    fn play<B: Backend>(&self, backend: &B, mark: &dyn Fn(Mark)) -> Result<(), PlanError>;
}

impl Steps for (&Task<'_>, How) {
    fn play<B: Backend>(&self, backend: &B, mark: &dyn Fn(Mark)) -> Result<(), PlanError> {
        let (task, how) = *self;
        task.play(backend, how, mark)
    }
}

impl Steps for Ahead<'_> {
    fn play<B: Backend>(&self, backend: &B, mark: &dyn Fn(Mark)) -> Result<(), PlanError> {
        Ahead::play(self, backend, mark)
    }
}

/// How a GPU trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// In which numbers.
    pub class: Class,
    /// Whether a library does the products of the class fast.
    pub library: bool,
    /// What rests on the host.
    pub on_host: OnHost,
}

/// What training takes of a slab, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// Slots for what visits from the host.
    pub slots: u64,
    /// Weights.
    pub weights: u64,
    /// Moments that stay on the device.
    pub moments: u64,
    /// The highest place that is reached: what a slab has to have at least.
    pub highest: u64,
}

/// What steps take of a slab in this way, to the byte.
///
/// # Errors
///
/// [`PlanError`] when packs are too short to learn from.
pub fn parts(steps: &impl Steps, way: Way) -> Result<Parts, PlanError> {
    let refused = |reason| PlanError::Model(BackendError::Device { operation: "planning", reason }.into());
    let failed = |error: DeviceError| refused(error.to_string());
    let slab = Slab::reserve(Blank { multiplies: way.library }, 1 << 62).map_err(failed)?;
    let cuda = Cuda::resting(slab, way.on_host, SLICE_WORDS).map_err(failed)?;
    match way.class {
        Class::Exact => played(steps, &cuda),
        Class::Fast => {
            let class = TensorCores::of(cuda.device()).map_err(|missing| refused(missing.to_string()))?;
            played(steps, &cuda.in_class(class))
        }
    }
}

fn played<C: class::Class>(steps: &impl Steps, cuda: &Cuda<Slab<Blank>, C>) -> Result<Parts, PlanError> {
    let slots = cuda.device().taken();
    // when each step begins there is nothing but what stays from step to step
    let between = RefCell::new(Vec::new());
    let mark = |mark| {
        if mark == Mark::Step {
            between.borrow_mut().push(cuda.device().taken());
        }
    };
    steps.play(cuda, &mark)?;
    let between = between.into_inner();
    let first = between.first().map_or(0, |taken| taken - slots);
    let second = between.get(1).map_or(first, |taken| taken - slots);
    Ok(Parts { slots, weights: first, moments: second - first, highest: cuda.device().highest() })
}

/// The device.
#[derive(Debug, Clone, Copy)]
pub struct Blank {
    /// Whether it has a library of products, which takes every product.
    pub multiplies: bool,
}

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

    fn multiplies(&self) -> bool {
        self.multiplies
    }

    unsafe fn multiply(&self, _: &Description, _: &Operands<'_, ()>) -> Result<bool, DeviceError> {
        Ok(self.multiplies)
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
