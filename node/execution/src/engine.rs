//! Where inner steps are computed: on a GPU as long as there is one that works, otherwise on the processor.
//!
//! Both give the same bits, so a contribution does not tell which it was. Work that a GPU does not finish is done again on
//! the processor, from the same inputs: nothing is lost but time.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering},
};

use talkoot_cuda::{
    Cuda,
    device::{Device, Driver},
};
use talkoot_trainer::{
    backend::{Backend, BackendError},
    cpu::Cpu,
    inner::InnerError,
    model::ModelError,
};

use crate::ExecutionError;

/// Something to compute on any device, from the start if need be.
pub(crate) trait Computation {
    /// What comes out.
    type Output;

    /// Computes it.
    fn on<B: Backend>(&mut self, backend: &B) -> Result<Self::Output, ExecutionError>;
}

/// A GPU and the processor, or the processor alone.
#[derive(Debug)]
pub struct Engine<D: Device = Driver> {
    gpu: Option<Cuda<D>>,
    lost: AtomicBool,
}

static CHOSEN: OnceLock<Engine> = OnceLock::new();

/// Makes this the engine of the process. Only the first choice counts; whether this was it.
pub fn choose_engine(engine: Engine) -> bool {
    CHOSEN.set(engine).is_ok()
}

/// The engine of the process: what was chosen, or the processor.
pub(crate) fn chosen() -> &'static Engine {
    CHOSEN.get_or_init(|| Engine::new(None))
}

impl<D: Device> Engine<D> {
    /// With this GPU, or without one.
    pub fn new(gpu: Option<Cuda<D>>) -> Self {
        Self { gpu, lost: AtomicBool::new(false) }
    }

    /// The GPU, also one that has failed.
    pub fn gpu(&self) -> Option<&Cuda<D>> {
        self.gpu.as_ref()
    }

    /// Whether there is a GPU that has not failed.
    pub fn has_gpu(&self) -> bool {
        self.gpu.is_some() && !self.lost.load(Ordering::Relaxed)
    }

    /// Does `work`, on the processor where the GPU fails. A GPU without room is asked again next time, a lost one never.
    pub(crate) fn run<C: Computation>(&self, work: &mut C) -> Result<C::Output, ExecutionError> {
        let Some(gpu) = self.gpu.as_ref().filter(|_| self.has_gpu()) else {
            return work.on(&Cpu::default());
        };
        match work.on(gpu) {
            Err(error) => match device_failure(&error) {
                None => Err(error),
                Some(failure) => {
                    if !matches!(failure, BackendError::OutOfMemory { .. }) {
                        self.lost.store(true, Ordering::Relaxed);
                    }
                    let (device, lost) = (gpu.device().name(), !self.has_gpu());
                    tracing::warn!(%failure, device, lost, "the GPU failed: doing the work again on the processor");
                    gpu.trim();
                    work.on(&Cpu::default())
                }
            },
            done => done,
        }
    }
}

/// The device's own failure, if it was that.
fn device_failure(error: &ExecutionError) -> Option<&BackendError> {
    match error {
        ExecutionError::Inner(
            InnerError::Device(failure) | InnerError::Model { source: ModelError::Backend(failure), .. },
        ) => Some(failure),
        _ => None,
    }
}
