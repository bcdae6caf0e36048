//! Where inner steps are computed: on GPUs as long as there are some that work, otherwise on the processor.
//!
//! In exact arithmetic all give the same bits, so a contribution does not tell which it was. Work that a GPU does not
//! finish is done again from the same inputs, on those that are left and at last on the processor: nothing is lost but time.
//! Tensor cores are the one arithmetic that needs a GPU; what they don't finish, the processor does exactly, which every
//! class believes.

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

/// GPUs and the processor, or the processor alone.
#[derive(Debug)]
pub struct Engine<D: Device = Opened<Driver>> {
    /// The first is the one that moves the weights and encodes.
    gpus: Vec<Member<D>>,
}

/// A GPU of an engine.
#[derive(Debug)]
struct Member<D: Device> {
    cuda: Cuda<D>,
    /// Its tensor cores, or why there are none: looked at when somebody wants them, as a library comes with them.
    tensor_cores: OnceLock<Result<TensorCores, Unavailable>>,
    lost: AtomicBool,
}

impl<D: Device> Member<D> {
    fn new(cuda: Cuda<D>) -> Self {
        Self { cuda, tensor_cores: OnceLock::new(), lost: AtomicBool::new(false) }
    }

    /// Whether it has the room for what is ahead, as far as that is known; says what would help where not.
    fn has_room(&self, arithmetic: Arithmetic, ahead: &Ahead<'_>) -> bool {
        // where memory is asked for as work goes, nothing is known
        if self.cuda.device().room().is_none() {
            return true;
        }
        let class = match arithmetic {
            Arithmetic::TensorCores if self.tensor_cores().is_ok() => Class::Fast,
            _ => Class::Exact,
        };
        match check(&self.cuda, class, ahead) {
            Ok(Err(why)) => {
                tracing::warn!(%why, device = self.name(), "the GPU's memory is too small: this work is done without it");
                false
            }
            // who cannot be planned for has nothing to learn, or finds out on the way
            Ok(Ok(())) | Err(_) => true,
        }
    }

    fn tensor_cores(&self) -> Result<&TensorCores, &Unavailable> {
        let look = || TensorCores::of(self.cuda.device()).map_err(Unavailable::TooOld);
        self.tensor_cores.get_or_init(look).as_ref()
    }

    fn name(&self) -> &str {
        self.cuda.device().name()
    }

    fn works(&self) -> bool {
        !self.lost.load(Ordering::Relaxed)
    }
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
        Self::of_several(gpu.into_iter().collect())
    }

    /// With these GPUs, which work as one, or without one.
    pub fn of_several(gpus: Vec<Cuda<D>>) -> Self {
        Self { gpus: gpus.into_iter().map(Member::new).collect() }
    }

    /// The first GPU, also one that has failed.
    pub fn gpu(&self) -> Option<&Cuda<D>> {
        self.gpus().next()
    }

    /// All GPUs, also those that have failed.
    pub fn gpus(&self) -> impl Iterator<Item = &Cuda<D>> {
        self.gpus.iter().map(|member| &member.cuda)
    }

    /// Whether there is a GPU that has not failed.
    pub fn has_gpu(&self) -> bool {
        !self.working().is_empty()
    }

    fn working(&self) -> Vec<&Member<D>> {
        self.gpus.iter().filter(|member| member.works()).collect()
    }

    /// Whether inner steps can be done in an arithmetic.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] says why not, and what to choose instead.
    pub fn offers(&self, arithmetic: Arithmetic) -> Result<(), Unavailable> {
        match (arithmetic, &*self.gpus) {
            (Arithmetic::Exact, _) | (Arithmetic::Library, []) => Ok(()),
            (Arithmetic::Library, _) => Err(Unavailable::NotOnGpu),
            (Arithmetic::TensorCores, []) => Err(Unavailable::NoGpu),
            (Arithmetic::TensorCores, gpus) => {
                gpus.iter().try_for_each(|gpu| gpu.tensor_cores().map(drop).map_err(Clone::clone))
            }
        }
    }

    /// What trains, for people: GPUs that have not failed, or the processor.
    pub fn names(&self) -> String {
        let names: Vec<&str> = self.working().into_iter().map(Member::name).collect();
        if names.is_empty() { "the processor".to_owned() } else { together(&names) }
    }

    /// The same with an arithmetic.
    pub fn describe(&self, arithmetic: Arithmetic) -> String {
        let (working, names) = (self.working(), self.names());
        if working.is_empty() || arithmetic != Arithmetic::TensorCores {
            return format!("{names}, {arithmetic}");
        }
        let library = working.iter().all(|gpu| gpu.tensor_cores().is_ok_and(TensorCores::has_library));
        let products = if library { "products by cuBLASLt" } else { "products by our own kernels" };
        format!("{names}, {arithmetic}, {products}")
    }

    /// Does `work` on all GPUs together, without those that fail, and on the processor where none is left. A GPU without
    /// room is asked again next time, a lost one never.
    pub(crate) fn run<C: Computation>(
        &self,
        arithmetic: Arithmetic,
        work: &mut C,
    ) -> Result<C::Output, ExecutionError> {
        if arithmetic == Arithmetic::Library {
            return work.on(&arithmetic.cpu());
        }
        let mut gpus = self.working();
        if gpus.is_empty() {
            return work.on(&arithmetic.cpu());
        }
        let ahead =
            if gpus.iter().any(|gpu| gpu.cuda.device().room().is_some()) { work.ahead()? } else { None };
        if let Some(ahead) = ahead {
            gpus.retain(|gpu| gpu.has_room(arithmetic, &ahead));
        }
        while !gpus.is_empty() {
            let done = Self::on(&gpus, arithmetic, work);
            let Some(failure) = done.as_ref().err().and_then(device_failure) else { return done };
            self.leave_out(&mut gpus, failure);
        }
        work.on(&Cpu::default())
    }

    /// On the first of these GPUs with the help of the others.
    fn on<C: Computation>(
        gpus: &[&Member<D>],
        arithmetic: Arithmetic,
        work: &mut C,
    ) -> Result<C::Output, ExecutionError> {
        let cores: Result<Vec<&TensorCores>, _> = gpus.iter().map(|gpu| gpu.tensor_cores()).collect();
        match cores {
            Ok(cores) if arithmetic == Arithmetic::TensorCores => {
                let mut each = gpus.iter().zip(cores).map(|(gpu, class)| gpu.cuda.in_class(class.clone()));
                let first = each.next().expect("a GPU at least");
                work.on(&first.with_others(each.collect()))
            }
            _ => {
                let mut each = gpus.iter().map(|gpu| gpu.cuda.in_class(Exact));
                let first = each.next().expect("a GPU at least");
                work.on(&first.with_others(each.collect()))
            }
        }
    }

    /// Takes the GPU that failed out of those that are to do the work again, and those that are lost with it.
    fn leave_out(&self, gpus: &mut Vec<&Member<D>>, failure: &BackendError) {
        let (at, failure) = match failure {
            BackendError::Member { index, source, .. } => (*index, &**source),
            of_the_first => (0, of_the_first),
        };
        let gone = gpus.remove(at.min(gpus.len() - 1));
        let no_room = matches!(failure, BackendError::OutOfMemory { .. });
        gone.lost.fetch_or(!no_room, Ordering::Relaxed);
        // a driver may give up more than the one
        gpus.retain(|gpu| {
            let answers = no_room || gpu.cuda.settle().is_ok();
            gpu.lost.fetch_or(!answers, Ordering::Relaxed);
            answers
        });
        let left: Vec<&str> = gpus.iter().map(|gpu| gpu.name()).collect();
        let instead = if left.is_empty() { "the processor".to_owned() } else { together(&left) };
        let (device, lost) = (gone.name(), !gone.works());
        tracing::warn!(%failure, device, lost, "the GPU failed: doing the work again on {instead}");
        self.gpus().for_each(Cuda::trim);
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
        for gpu in self.working() {
            match codec::encode_from_host(&gpu.cuda, settings, layout, origin, delta, factors, feedback) {
                Ok(blob) => return Ok(blob),
                Err(codec::ContributionError::Refused(refused)) => return Err(refused),
                Err(codec::ContributionError::Device(failure)) => {
                    let (device, no_room) = (gpu.name(), matches!(failure, BackendError::OutOfMemory { .. }));
                    gpu.lost.fetch_or(!no_room, Ordering::Relaxed);
                    tracing::warn!(%failure, device, lost = !no_room, "the GPU failed: another encodes");
                    gpu.cuda.trim();
                }
                Err(failure) => tracing::warn!(%failure, "the GPU does not encode: another does"),
            }
        }
        contribution::encode_with(settings, layout, origin, delta, factors, feedback)
    }
}

/// GPUs that work as one, for people; equal names are counted.
fn together(names: &[&str]) -> String {
    let mut counted: Vec<(&str, usize)> = Vec::new();
    for name in names {
        match counted.iter_mut().find(|(known, _)| known == name) {
            Some((_, count)) => *count += 1,
            None => counted.push((name, 1)),
        }
    }
    let said =
        |(name, count): (&str, usize)| if count == 1 { name.to_owned() } else { format!("{count} x {name}") };
    counted.into_iter().map(said).collect::<Vec<_>>().join(" + ")
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
