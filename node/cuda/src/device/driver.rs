//! A GPU behind NVIDIA's driver, which is found at run time.

#![allow(unsafe_code, reason = "the driver is a C library")]

mod context;
mod cublaslt;
mod lanes;
mod survey;

use std::{
    collections::HashMap,
    ffi::{CString, c_void},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use cudarc::driver::{result, sys};

pub use self::cublaslt::{NoLibrary, library, workspace_bytes};
pub use self::lanes::{Event, Pinned};
pub use self::survey::{Gpu, Missing, Survey, survey};
use self::{
    context::{Context, said},
    cublaslt::CublasLt,
    lanes::Streams,
};
use super::{Argument, Device, DeviceError, Lane, Shape};
use crate::{
    kernels::Kernel,
    multiply::{Description, Operands},
    ptx::Texts,
};

/// Shared memory that a kernel may ask for without saying so beforehand.
const PLAIN_SHARED_BYTES: u32 = 48 << 10;

/// A GPU, opened.
#[derive(Debug)]
pub struct Driver {
    /// Opened with the first product; none where there is none that can be used. Closed before the context.
    products: OnceLock<Option<CublasLt>>,
    context: Arc<Context>,
    gpu: Gpu,
    loaded: Mutex<Loaded>,
    streams: Mutex<Option<Streams>>,
}

/// What was handed to the driver so far, and what it made of it.
#[derive(Debug, Default)]
struct Loaded {
    texts: HashMap<&'static str, Texts>,
    modules: HashMap<&'static str, Handle<sys::CUmod_st>>,
    kernels: HashMap<Kernel, Handle<sys::CUfunc_st>>,
}

/// A handle of the driver's.
#[derive(Debug)]
struct Handle<T>(*mut T);

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Handle<T> {}

// SAFETY: the driver's handles may be used from every thread that has made their context current.
unsafe impl<T> Send for Handle<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Handle<T> {}

/// Memory of a GPU.
#[derive(Debug)]
pub struct Memory {
    context: Arc<Context>,
    start: sys::CUdeviceptr,
    bytes: usize,
}

impl Drop for Memory {
    fn drop(&mut self) {
        // a GPU that is gone has no memory to give back
        if self.context.enter().is_ok() {
            // SAFETY: it was allocated in this context, and nobody else has it.
            let _gone = unsafe { result::free_sync(self.start) };
        }
    }
}

impl Memory {
    /// Address of a part.
    fn part(&self, at: usize, bytes: usize) -> sys::CUdeviceptr {
        let inside = at.checked_add(bytes).is_some_and(|end| end <= self.bytes);
        assert!(inside, "bytes {at} to {at} + {bytes} of {}", self.bytes);
        self.start + at as u64
    }
}

impl Driver {
    /// Opens the GPU `index` of what [`survey`] finds.
    ///
    /// # Errors
    ///
    /// [`Missing`] when there is no driver, it is too old, or it has no such GPU.
    pub fn open(index: usize) -> Result<Self, Missing> {
        let Survey { gpus, .. } = survey()?;
        let count = gpus.len();
        let gpu = gpus.into_iter().nth(index).ok_or(Missing::NoSuchGpu { index, count })?;
        gpu.usable()?;
        let context = Context::of(&gpu).map_err(|error| Missing::Refused { reason: error.to_string() })?;
        Ok(Self {
            context: Arc::new(context),
            gpu,
            loaded: Mutex::default(),
            products: OnceLock::new(),
            streams: Mutex::default(),
        })
    }

    /// What it is.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Bytes that are free, and bytes that there are.
    ///
    /// # Errors
    ///
    /// [`DeviceError`] when the GPU is gone.
    pub fn memory(&self) -> Result<(usize, usize), DeviceError> {
        self.context.enter()?;
        result::mem_get_info().map_err(said)
    }

    /// A lane's stream; those of copies come into being when the first is wanted. The context becomes the current one.
    fn stream(&self, lane: Lane) -> Result<sys::CUstream, DeviceError> {
        self.context.enter()?;
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let known = match *streams {
            Some(known) => known,
            None => *streams.insert(Streams::new()?),
        };
        Ok(known.of(lane))
    }

    /// The driver's handle of a kernel; its file is handed to the driver when the first of its kernels is wanted.
    fn function(&self, kernel: Kernel) -> Result<sys::CUfunction, DeviceError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&function) = loaded.kernels.get(&kernel) {
            return Ok(function.0);
        }
        let module = match loaded.modules.get(kernel.file) {
            Some(&module) => module,
            None => {
                let module = self.load(&mut loaded, kernel.file)?;
                loaded.modules.insert(kernel.file, module);
                module
            }
        };
        let name = CString::new(kernel.name).expect("names of kernels have no zero in them");
        // SAFETY: the module was loaded in this context and is never unloaded.
        let function = Handle(unsafe { result::module::get_function(module.0, name) }.map_err(said)?);
        loaded.kernels.insert(kernel, function);
        Ok(function.0)
    }

    /// The library of products. A handle that it refuses is as good as none.
    fn products(&self) -> Option<&CublasLt> {
        let open = || {
            library().ok()?;
            let workspace = self.allocate(workspace_bytes(self.gpu.capability)).ok();
            match self.context.enter().and_then(|()| CublasLt::open(workspace)) {
                Ok(opened) => Some(opened),
                Err(error) => {
                    tracing::warn!(%error, "cuBLASLt does not open: our own kernels multiply");
                    None
                }
            }
        };
        self.products.get_or_init(open).as_ref()
    }

    fn load(&self, loaded: &mut Loaded, file: &'static str) -> Result<Handle<sys::CUmod_st>, DeviceError> {
        let class = file.split('/').next().unwrap_or_default();
        if !loaded.texts.contains_key(class) {
            let texts = Texts::of_class(class);
            let texts = texts.ok_or_else(|| failed(format!("no kernels of class {class} are built in")))?;
            loaded.texts.insert(class, texts);
        }
        let text = loaded.texts.get(class).and_then(|texts| texts.get(file, self.gpu.capability));
        let text = text.ok_or_else(|| {
            let (major, minor) = self.gpu.capability;
            failed(format!("{file} is not built for compute capability {major}.{minor}"))
        })?;
        let text = CString::new(text).expect("PTX has no zero in it");
        // SAFETY: a text that ends with a zero, as the driver wants it.
        let module = unsafe { result::module::load_data(text.as_ptr().cast()) };
        let module = module.map_err(|error| match said(error) {
            DeviceError::OutOfMemory { .. } => DeviceError::OutOfMemory { bytes: text.as_bytes().len() },
            DeviceError::Failed { reason } => failed(format!("{file}: {reason}")),
            other @ DeviceError::OutOfHostMemory { .. } => other,
        })?;
        Ok(Handle(module))
    }
}

fn failed(reason: String) -> DeviceError {
    DeviceError::Failed { reason }
}

impl Device for Driver {
    type Memory = Memory;
    type Pinned = Pinned;
    type Event = Event;

    fn name(&self) -> &str {
        &self.gpu.name
    }

    fn capability(&self) -> (u32, u32) {
        self.gpu.capability
    }

    fn allocate(&self, bytes: usize) -> Result<Memory, DeviceError> {
        self.context.enter()?;
        // SAFETY: a number of bytes that is not zero.
        let start = unsafe { result::malloc_sync(bytes.max(1)) }.map_err(|error| match error.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => DeviceError::OutOfMemory { bytes },
            _ => said(error),
        })?;
        Ok(Memory { context: Arc::clone(&self.context), start, bytes })
    }

    fn clear(&self, memory: &Memory, at: usize, bytes: usize) -> Result<(), DeviceError> {
        self.context.enter()?;
        // SAFETY: the part lies inside its allocation.
        unsafe { result::memset_d8_sync(memory.part(at, bytes), 0, bytes) }.map_err(said)
    }

    fn upload(&self, from: &[u8], to: &Memory, at: usize) -> Result<(), DeviceError> {
        self.context.enter()?;
        // SAFETY: the part lies inside its allocation; `from` is read before this returns.
        unsafe { result::memcpy_htod_sync(to.part(at, from.len()), from) }.map_err(said)
    }

    fn download(&self, from: &Memory, at: usize, to: &mut [u8]) -> Result<(), DeviceError> {
        self.context.enter()?;
        let start = from.part(at, to.len());
        // SAFETY: the part lies inside its allocation; `to` is written before this returns.
        unsafe { result::memcpy_dtoh_sync(to, start) }.map_err(said)
    }

    unsafe fn launch(
        &self,
        kernel: Kernel,
        shape: Shape,
        arguments: &[Argument<'_, Memory>],
    ) -> Result<(), DeviceError> {
        self.context.enter()?;
        let function = self.function(kernel)?;
        if shape.shared_bytes > PLAIN_SHARED_BYTES {
            let wanted = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            let bytes = shape.shared_bytes.cast_signed();
            // SAFETY: a kernel of this context.
            unsafe { result::function::set_function_attribute(function, wanted, bytes) }.map_err(said)?;
        }
        // every kind of argument fits into eight bytes, of which the driver reads as many as the kernel declares
        let mut values: Vec<u64> = arguments.iter().map(value_of).collect();
        let mut places: Vec<*mut c_void> =
            values.iter_mut().map(|value| std::ptr::from_mut(value).cast()).collect();
        let [grid, block] = [shape.grid, shape.block].map(|[x, y, z]| (x, y, z));
        let stream = std::ptr::null_mut();
        // SAFETY: the caller promises that the arguments are the kernel's; the driver copies them before this returns.
        unsafe { result::launch_kernel(function, grid, block, shape.shared_bytes, stream, &mut places) }
            .map_err(said)
    }

    fn multiplies(&self) -> bool {
        self.products().is_some()
    }

    unsafe fn multiply(
        &self,
        product: &Description,
        operands: &Operands<'_, Memory>,
    ) -> Result<bool, DeviceError> {
        self.context.enter()?;
        match self.products() {
            // SAFETY: the caller's promise.
            Some(library) => unsafe { library.multiply(product, operands) },
            None => Ok(false),
        }
    }

    fn synchronise(&self) -> Result<(), DeviceError> {
        self.context.enter()?;
        result::ctx::synchronize().map_err(said)
    }

    fn pin(&self, bytes: usize) -> Result<Pinned, DeviceError> {
        self.context.enter()?;
        Pinned::new(Arc::clone(&self.context), bytes)
    }

    fn read_pinned(&self, from: &Pinned, at: usize, to: &mut [u8]) -> Result<(), DeviceError> {
        self.synchronise()?;
        // SAFETY: the part lies inside its allocation, which no copy writes now; nobody has a reference into it.
        unsafe { from.part(at, to.len()).copy_to_nonoverlapping(to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    fn write_pinned(&self, from: &[u8], to: &Pinned, at: usize) -> Result<(), DeviceError> {
        self.synchronise()?;
        // SAFETY: as above; no copy reads it now.
        unsafe { to.part(at, from.len()).copy_from_nonoverlapping(from.as_ptr(), from.len()) };
        Ok(())
    }

    fn copy_to_device(
        &self,
        from: &Pinned,
        from_at: usize,
        to: &Memory,
        to_at: usize,
        bytes: usize,
    ) -> Result<(), DeviceError> {
        let stream = self.stream(Lane::ToDevice)?;
        // SAFETY: the part lies inside its allocation, and is bytes; the driver alone reads it until the copy is done.
        let from = unsafe { std::slice::from_raw_parts(from.part(from_at, bytes), bytes) };
        // SAFETY: both parts lie inside their allocations, which wait for copies under way when they are dropped.
        unsafe { result::memcpy_htod_async(to.part(to_at, bytes), from, stream) }.map_err(said)
    }

    fn copy_to_host(
        &self,
        from: &Memory,
        from_at: usize,
        to: &Pinned,
        to_at: usize,
        bytes: usize,
    ) -> Result<(), DeviceError> {
        let stream = self.stream(Lane::ToHost)?;
        // SAFETY: the part lies inside its allocation, and is bytes; the driver alone writes it until the copy is done.
        let to = unsafe { std::slice::from_raw_parts_mut(to.part(to_at, bytes), bytes) };
        // SAFETY: both parts lie inside their allocations, which wait for copies under way when they are dropped.
        unsafe { result::memcpy_dtoh_async(to, from.part(from_at, bytes), stream) }.map_err(said)
    }

    fn event(&self) -> Result<Event, DeviceError> {
        self.context.enter()?;
        Event::new(Arc::clone(&self.context))
    }

    fn record(&self, event: &Event, lane: Lane) -> Result<(), DeviceError> {
        event.record(self.stream(lane)?)
    }

    fn wait(&self, lane: Lane, event: &Event) -> Result<(), DeviceError> {
        event.wait(self.stream(lane)?)
    }
}

/// The bytes of an argument, lowest first: NVIDIA's machines are little-endian, as are GPUs.
fn value_of(argument: &Argument<'_, Memory>) -> u64 {
    match *argument {
        Argument::Memory(memory, at) => memory.part(at, 0),
        Argument::Null => 0,
        Argument::U32(value) => u64::from(value),
        Argument::U64(value) => value,
        Argument::F32(value) => u64::from(value.to_bits()),
        Argument::F64(value) => value.to_bits(),
    }
}
