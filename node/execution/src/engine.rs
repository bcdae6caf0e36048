//! Where inner steps are computed: on a GPU as long as there is one that works, otherwise on the processor.
//!
//! In exact arithmetic both give the same bits, so a contribution does not tell which it was. Work that a GPU does not
//! finish is done again on the processor, from the same inputs: nothing is lost but time. Tensor cores are the one
//! arithmetic that needs a GPU; what they don't finish, the processor does exactly, which every class believes.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering},
};

use talkoot_cuda::{
    Cuda,
    class::Exact,
    codec,
    device::{Device, Driver, Missing},
    fast::TensorCores,
    opened::Opened,
    plan::check,
};
use talkoot_trainer::{
    backend::{Backend, BackendError},
    contribution::{self, CodecSettings, EncodeError, ErrorFeedback, Layout, Origin},
    cpu::Cpu,
    inner::InnerError,
    model::ModelError,
    moments::Factors,
    plan::{Ahead, Class},
};

use crate::{Arithmetic, ExecutionError};

/// Something to compute on any device, from the start if need be.
pub(crate) trait Computation {
    /// What comes out.
    type Output;

    /// Computes it.
    fn on<B: Backend>(&mut self, backend: &B) -> Result<Self::Output, ExecutionError>;

    /// What it begins with, to be held to the memory of a device beforehand.
    fn ahead(&self) -> Result<Option<Ahead<'_>>, ExecutionError> {
        Ok(None)
    }
}

/// Why an arithmetic cannot be had here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// There is no GPU.
    #[error(
        "tensor cores are a GPU's, and no GPU trains here: talkoot doctor says why; leave out --arithmetic tensor-cores"
    )]
    NoGpu,
    /// The GPU's tensor cores are of no use.
    #[error("{0}; leave out --arithmetic tensor-cores")]
    TooOld(Missing),
    /// It is chosen among devices, and it is the processor's.
    #[error("a library's products are the processor's: say --device cpu, or leave out --arithmetic library")]
    NotOnGpu,
}

/// A GPU and the processor, or the processor alone.
#[derive(Debug)]
pub struct Engine<D: Device = Opened<Driver>> {
    gpu: Option<Cuda<D>>,
    /// The GPU's tensor cores, or why there are none: looked at when somebody wants them, as a library comes with them.
    tensor_cores: OnceLock<Result<TensorCores, Unavailable>>,
    lost: AtomicBool,
}

static CHOSEN: OnceLock<Engine> = OnceLock::new();

/// Makes this the engine of the process. Only the first choice counts; whether this was it.
pub fn choose_engine(engine: Engine) -> bool {
    CHOSEN.set(engine).is_ok()
}

/// The engine of the process: what was chosen, or the processor.
pub fn chosen() -> &'static Engine {
    CHOSEN.get_or_init(|| Engine::new(None))
}

impl<D: Device> Engine<D> {
    /// With this GPU, or without one.
    pub fn new(gpu: Option<Cuda<D>>) -> Self {
        Self { gpu, tensor_cores: OnceLock::new(), lost: AtomicBool::new(false) }
    }

    fn tensor_cores(&self) -> Result<&TensorCores, &Unavailable> {
        let look = || {
            let gpu = self.gpu.as_ref().ok_or(Unavailable::NoGpu)?;
            TensorCores::of(gpu.device()).map_err(Unavailable::TooOld)
        };
        self.tensor_cores.get_or_init(look).as_ref()
    }

    /// The GPU, also one that has failed.
    pub fn gpu(&self) -> Option<&Cuda<D>> {
        self.gpu.as_ref()
    }

    /// Whether there is a GPU that has not failed.
    pub fn has_gpu(&self) -> bool {
        self.working().is_some()
    }

    fn working(&self) -> Option<&Cuda<D>> {
        self.gpu.as_ref().filter(|_| !self.lost.load(Ordering::Relaxed))
    }

    /// Whether inner steps can be done in an arithmetic.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] says why not, and what to choose instead.
    pub fn offers(&self, arithmetic: Arithmetic) -> Result<(), Unavailable> {
        match (arithmetic, &self.gpu) {
            (Arithmetic::Exact, _) | (Arithmetic::Library, None) => Ok(()),
            (Arithmetic::Library, Some(_)) => Err(Unavailable::NotOnGpu),
            (Arithmetic::TensorCores, _) => self.tensor_cores().map(drop).map_err(Clone::clone),
        }
    }

    /// What trains in an arithmetic, for people.
    pub fn describe(&self, arithmetic: Arithmetic) -> String {
        match (arithmetic, self.working()) {
            (Arithmetic::Exact, None) => "the processor, exact".to_owned(),
            (Arithmetic::Library | Arithmetic::TensorCores, None) => format!("the processor, {arithmetic}"),
            (Arithmetic::TensorCores, Some(gpu)) => {
                let library = self.tensor_cores().is_ok_and(TensorCores::has_library);
                let products = if library { "products by cuBLASLt" } else { "products by our own kernels" };
                format!("{}, {arithmetic}, {products}", gpu.device().name())
            }
            (_, Some(gpu)) => format!("{}, {arithmetic}", gpu.device().name()),
        }
    }

    /// Does `work`, on the processor where the GPU fails. A GPU without room is asked again next time, a lost one never.
    pub(crate) fn run<C: Computation>(
        &self,
        arithmetic: Arithmetic,
        work: &mut C,
    ) -> Result<C::Output, ExecutionError> {
        let on_gpu = match (arithmetic, self.working()) {
            (Arithmetic::Exact | Arithmetic::TensorCores, Some(gpu))
                if !self.has_room(gpu, arithmetic, work)? =>
            {
                return work.on(&Cpu::default());
            }
            (_, None) | (Arithmetic::Library, _) => return work.on(&arithmetic.cpu()),
            (Arithmetic::Exact, Some(gpu)) => work.on(&gpu.in_class(Exact)),
            (Arithmetic::TensorCores, Some(gpu)) => match self.tensor_cores() {
                Ok(class) => work.on(&gpu.in_class(class.clone())),
                Err(_) => work.on(&gpu.in_class(Exact)),
            },
        };
        match on_gpu {
            Err(error) => match device_failure(&error) {
                None => Err(error),
                Some(failure) => {
                    self.failed(failure, "doing the work again on the processor");
                    work.on(&Cpu::default())
                }
            },
            done => done,
        }
    }

    /// Whether a GPU has the room for what is ahead, as far as that is known; says what would help where not.
    fn has_room<C: Computation>(
        &self,
        gpu: &Cuda<D>,
        arithmetic: Arithmetic,
        work: &C,
    ) -> Result<bool, ExecutionError> {
        // where memory is asked for as work goes, nothing is known
        if gpu.device().room().is_none() {
            return Ok(true);
        }
        let Some(ahead) = work.ahead()? else { return Ok(true) };
        let class = match arithmetic {
            Arithmetic::TensorCores if self.tensor_cores().is_ok() => Class::Fast,
            _ => Class::Exact,
        };
        match check(gpu, class, &ahead) {
            Ok(Err(why)) => {
                let device = gpu.device().name();
                tracing::warn!(%why, device, "the GPU's memory is too small: the processor does this work");
                Ok(false)
            }
            // who cannot be planned for has nothing to learn, or finds out on the way
            Ok(Ok(())) | Err(_) => Ok(true),
        }
    }

    /// Encodes a contribution, as [`contribution::encode_with`] does and to the same bytes, on the GPU where there is one.
    ///
    /// # Errors
    ///
    /// As there.
    pub(crate) fn encode(
        &self,
        settings: &CodecSettings,
        layout: &Layout,
        origin: &Origin,
        delta: &[&[f32]],
        factors: Option<&Factors>,
        feedback: &mut ErrorFeedback,
    ) -> Result<Vec<u8>, EncodeError> {
        if let Some(gpu) = self.working() {
            match codec::encode_from_host(gpu, settings, layout, origin, delta, factors, feedback) {
                Ok(blob) => return Ok(blob),
                Err(codec::ContributionError::Refused(refused)) => return Err(refused),
                Err(codec::ContributionError::Device(failure)) => {
                    self.failed(&failure, "encoding on the processor");
                }
                Err(failure) => tracing::warn!(%failure, "the GPU does not encode: the processor does"),
            }
        }
        contribution::encode_with(settings, layout, origin, delta, factors, feedback)
    }

    /// Notes a failure of the GPU.
    fn failed(&self, failure: &BackendError, instead: &'static str) {
        let Some(gpu) = &self.gpu else { return };
        if !matches!(failure, BackendError::OutOfMemory { .. }) {
            self.lost.store(true, Ordering::Relaxed);
        }
        let (device, lost) = (gpu.device().name(), !self.has_gpu());
        tracing::warn!(%failure, device, lost, "the GPU failed: {instead}");
        gpu.trim();
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
