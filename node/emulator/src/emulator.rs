//! The processor as a device that runs CUDA kernels.

#![allow(unsafe_code, reason = "libraries are loaded, and kernels take pointers")]

use std::{
    collections::HashMap,
    ffi::{CStr, CString, c_char, c_int, c_void},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use libloading::Library;
use talkoot_cuda::{
    device::{Argument, Device, DeviceError, Lane, Shape},
    kernels::{FILES, File, Kernel},
    multiply::{Description, Operands},
};

use crate::{
    arena::Arena,
    compile,
    cublaslt::{self, Products},
    faults::Faults,
};

/// In which order threads of a block, and blocks of a grid, have their turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Lowest number first.
    Forward,
    /// Highest number first.
    Backward,
    /// Anew at every barrier, from this seed.
    Random(u64),
}

impl Order {
    /// Three orders that a kernel without a race can't tell apart.
    pub const ALL: [Self; 3] = [Self::Forward, Self::Backward, Self::Random(7)];
}

/// As `Launch` of the runtime has it.
#[repr(C)]
struct Launch {
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    order: u32,
    seed: u64,
    kinds: *const c_char,
    arguments: *mut *mut c_void,
    report: *mut c_char,
    report_size: usize,
}

/// Libraries stay loaded: their kernels run on stacks of their own.
static LIBRARIES: Mutex<Option<HashMap<&'static str, Library>>> = Mutex::new(None);

/// The processor as a device that runs CUDA kernels, one launch at a time in a process.
#[derive(Debug)]
pub struct Emulator {
    compiler: String,
    order: Order,
    alignment: usize,
    capability: (u32, u32),
    library: Products,
    sources: PathBuf,
    files: &'static [File],
    faults: Arc<Faults>,
}

/// Memory of an [`Emulator`].
#[derive(Debug)]
pub struct Memory {
    arena: Arena,
    faults: Arc<Faults>,
}

impl Memory {
    pub(crate) fn len(&self) -> usize {
        self.arena.len()
    }

    pub(crate) fn address(&self, at: usize) -> *mut u8 {
        self.arena.address(at)
    }
}

/// Memory of the host, beside an [`Emulator`].
#[derive(Debug)]
pub struct Pinned(Mutex<Vec<u8>>);

impl Drop for Memory {
    fn drop(&mut self) {
        self.faults.give_back(self.arena.len());
    }
}

impl Emulator {
    /// With threads in this order. `None` where there is no C++ compiler: it says so, and a test is to end there.
    pub fn new(order: Order) -> Option<Self> {
        let Some(compiler) = compile::compiler() else {
            eprintln!("SKIPPED: there is no C++ compiler (g++ or clang++), so kernels cannot be emulated");
            return None;
        };
        let sources = PathBuf::from(compile::KERNELS);
        Some(Self {
            compiler,
            order,
            alignment: 4,
            capability: (9, 0),
            library: Products::Absent,
            sources,
            files: FILES,
            faults: Arc::default(),
        })
    }

    /// Buffers begin at a multiple of so many bytes, 4 unless this is said: the less, the nearer is a buffer's end to
    /// what must not be touched; kernels that read vectors need more.
    #[must_use]
    pub fn with_alignment(mut self, alignment: usize) -> Self {
        self.alignment = alignment;
        self
    }

    /// As a GPU of this compute capability, 9.0 unless this is said. Kernels are the same.
    #[must_use]
    pub fn with_capability(mut self, capability: (u32, u32)) -> Self {
        self.capability = capability;
        self
    }

    /// With something that stands for cuBLASLt; without, unless this is said.
    #[must_use]
    pub fn with_library(mut self, library: Products) -> Self {
        self.library = library;
        self
    }

    /// Other kernels than those of `talkoot-cuda`, from files of the folder `sources`: for tests of the emulator itself.
    #[must_use]
    pub fn with_kernels(mut self, sources: PathBuf, files: &'static [File]) -> Self {
        (self.sources, self.files) = (sources, files);
        self
    }

    /// What is to go wrong.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// What a kernel's entry in its library is called with.
    fn entry(
        &self,
        libraries: &mut HashMap<&'static str, Library>,
        kernel: Kernel,
    ) -> Result<unsafe extern "C" fn(*const Launch) -> c_int, DeviceError> {
        if !libraries.contains_key(kernel.file) {
            let file = self.files.iter().find(|file| file.path == kernel.file);
            let file = file.ok_or_else(|| failed(format!("{} is in no table of kernels", kernel.file)))?;
            let path = compile::library_of(&self.compiler, &self.sources, file).map_err(failed)?;
            // SAFETY: a library that we just made; it has no initialisers.
            let library = unsafe { Library::new(path) }.map_err(|error| failed(error.to_string()))?;
            libraries.insert(kernel.file, library);
        }
        let name = format!("emulated_{}", kernel.name);
        // SAFETY: the macro EMULATED gives it this type; libraries are never unloaded.
        let entry = unsafe {
            libraries[kernel.file].get::<unsafe extern "C" fn(*const Launch) -> c_int>(name.as_bytes())
        };
        entry.map(|entry| *entry).map_err(|error| failed(error.to_string()))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(reason: impl Into<String>) -> DeviceError {
    DeviceError::Failed { reason: reason.into() }
}

impl Device for Emulator {
    type Memory = Memory;
    type Pinned = Pinned;
    type Event = ();

    fn name(&self) -> &str {
        "kernels on the processor"
    }

    fn capability(&self) -> (u32, u32) {
        self.capability
    }

    /// Fresh memory each time, so that what nobody wrote is noticed.
    fn keeps_memory(&self) -> bool {
        false
    }

    fn allocate(&self, bytes: usize) -> Result<Memory, DeviceError> {
        self.faults.take(bytes)?;
        let arena = Arena::new(bytes, self.alignment).map_err(|error| failed(error.to_string()))?;
        Ok(Memory { arena, faults: Arc::clone(&self.faults) })
    }

    fn clear(&self, memory: &Memory, at: usize, bytes: usize) -> Result<(), DeviceError> {
        self.upload(&vec![0; bytes], memory, at)
    }

    fn upload(&self, from: &[u8], to: &Memory, at: usize) -> Result<(), DeviceError> {
        self.faults.call()?;
        assert!(at + from.len() <= to.arena.len(), "bytes {at} to {} of {}", at + from.len(), to.arena.len());
        // SAFETY: inside the buffer, which is not ours but the device's: nobody has a reference into it.
        unsafe { to.arena.address(at).copy_from_nonoverlapping(from.as_ptr(), from.len()) };
        Ok(())
    }

    fn download(&self, from: &Memory, at: usize, to: &mut [u8]) -> Result<(), DeviceError> {
        self.faults.call()?;
        assert!(at + to.len() <= from.arena.len(), "bytes {at} to {} of {}", at + to.len(), from.arena.len());
        // SAFETY: as above.
        unsafe { to.as_mut_ptr().copy_from_nonoverlapping(from.arena.address(at), to.len()) };
        Ok(())
    }

    unsafe fn launch(
        &self,
        kernel: Kernel,
        shape: Shape,
        arguments: &[Argument<'_, Memory>],
    ) -> Result<(), DeviceError> {
        self.faults.launch()?;
        let kinds: String = arguments.iter().map(kind_of).collect();
        let kinds = CString::new(kinds).map_err(|error| failed(error.to_string()))?;
        let mut values: Vec<u64> = arguments.iter().map(value_of).collect();
        let mut places: Vec<*mut c_void> =
            values.iter_mut().map(|value| std::ptr::from_mut(value).cast()).collect();
        let mut report = [0 as c_char; 512];
        let (order, seed) = match self.order {
            Order::Forward => (0, 0),
            Order::Backward => (1, 0),
            Order::Random(seed) => (2, seed),
        };
        let launch = Launch {
            grid: shape.grid,
            block: shape.block,
            shared_bytes: shape.shared_bytes,
            order,
            seed,
            kinds: kinds.as_ptr(),
            arguments: places.as_mut_ptr(),
            report: report.as_mut_ptr(),
            report_size: report.len(),
        };
        let mut libraries = lock(&LIBRARIES);
        let entry = self.entry(libraries.get_or_insert_default(), kernel)?;
        // SAFETY: the lock lets one kernel run at a time; everything that the launch points to outlives the call.
        if unsafe { entry(&raw const launch) } != 0 {
            // SAFETY: the runtime writes a text that ends with a zero.
            let report = unsafe { CStr::from_ptr(report.as_ptr()) }.to_string_lossy();
            return Err(failed(format!("{}: {report}", kernel.name)));
        }
        drop(libraries);
        let whole = |argument: &Argument<'_, Memory>| match argument {
            Argument::Memory(memory, _) => memory.arena.margins_are_whole(),
            _ => true,
        };
        if !arguments.iter().all(whole) {
            return Err(failed(format!("{}: wrote beside a buffer", kernel.name)));
        }
        Ok(())
    }

    fn multiplies(&self) -> bool {
        self.library != Products::Absent
    }

    unsafe fn multiply(
        &self,
        product: &Description,
        operands: &Operands<'_, Memory>,
    ) -> Result<bool, DeviceError> {
        self.faults.launch()?;
        match self.library {
            Products::Absent | Products::Declines => return Ok(false),
            Products::Fails => return Err(failed("CUBLAS_STATUS_EXECUTION_FAILED")),
            Products::Present => cublaslt::multiply(product, operands),
        }
        self.faults.multiplied();
        if !operands.d.0.arena.margins_are_whole() {
            return Err(failed("a product wrote beside a buffer"));
        }
        Ok(true)
    }

    fn synchronise(&self) -> Result<(), DeviceError> {
        self.faults.call()
    }

    fn pin(&self, bytes: usize) -> Result<Pinned, DeviceError> {
        self.faults.call()?;
        Ok(Pinned(Mutex::new(vec![0xff; bytes])))
    }

    fn read_pinned(&self, from: &Pinned, at: usize, to: &mut [u8]) -> Result<(), DeviceError> {
        self.faults.call()?;
        to.copy_from_slice(&lock(&from.0)[at..at + to.len()]);
        Ok(())
    }

    fn write_pinned(&self, from: &[u8], to: &Pinned, at: usize) -> Result<(), DeviceError> {
        self.faults.call()?;
        lock(&to.0)[at..at + from.len()].copy_from_slice(from);
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
        self.upload(&lock(&from.0)[from_at..from_at + bytes], to, to_at)
    }

    fn copy_to_host(
        &self,
        from: &Memory,
        from_at: usize,
        to: &Pinned,
        to_at: usize,
        bytes: usize,
    ) -> Result<(), DeviceError> {
        self.download(from, from_at, &mut lock(&to.0)[to_at..to_at + bytes])
    }

    /// Nothing is ever under way, so there is nothing to wait for.
    fn event(&self) -> Result<(), DeviceError> {
        self.faults.call()
    }

    fn record(&self, (): &(), _: Lane) -> Result<(), DeviceError> {
        self.faults.call()
    }

    fn wait(&self, _: Lane, (): &()) -> Result<(), DeviceError> {
        self.faults.call()
    }
}

/// As `kind_of` of the runtime has it.
fn kind_of(argument: &Argument<'_, Memory>) -> char {
    match argument {
        Argument::Memory(..) | Argument::Null => 'p',
        Argument::U32(_) => 'u',
        Argument::U64(_) => 'l',
        Argument::F32(_) => 'f',
        Argument::F64(_) => 'd',
    }
}

fn value_of(argument: &Argument<'_, Memory>) -> u64 {
    match *argument {
        Argument::Memory(memory, at) => memory.arena.address(at) as u64,
        Argument::Null => 0,
        Argument::U32(value) => u64::from(value),
        Argument::U64(value) => value,
        Argument::F32(value) => u64::from(value.to_bits()),
        Argument::F64(value) => value.to_bits(),
    }
}
