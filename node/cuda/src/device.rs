//! What a GPU must be able to do, and how it can fail.
//!
//! [`Driver`] is a GPU behind NVIDIA's driver. Tests have another one: `talkoot-emulator` runs the same kernels on the
//! processor, and makes them fail where a test wants that.

#![allow(unsafe_code, reason = "a launch is only as safe as its arguments")]

mod driver;

use std::fmt;

pub use driver::{
    Driver, Event, Gpu, Memory, Missing, NoLibrary, Pinned, Survey, library, survey, workspace_bytes,
};

use crate::{
    kernels::Kernel,
    multiply::{Description, Operands},
};

/// Why a device did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// No room for so many bytes.
    #[error("the GPU has no room for {bytes} more bytes")]
    OutOfMemory {
        /// What was asked for.
        bytes: usize,
    },
    /// The host has no room for so many bytes that stay where they are.
    #[error("the host has no room for {bytes} more bytes that the GPU reads and writes by itself")]
    OutOfHostMemory {
        /// What was asked for.
        bytes: usize,
    },
    /// The driver refused or failed: it says why.
    #[error("{reason}")]
    Failed {
        /// What the driver says.
        reason: String,
    },
}

/// How many blocks of how many threads run a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Blocks along x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y and z; together at most 1,024.
    pub block: [u32; 3],
    /// Bytes of shared memory beside what the kernel declares.
    pub shared_bytes: u32,
}

/// One argument of a kernel.
#[derive(Debug)]
pub enum Argument<'a, M> {
    /// A pointer into memory of the device, so many bytes from its beginning.
    Memory(&'a M, usize),
    /// No memory.
    Null,
    /// `unsigned int` or `int`.
    U32(u32),
    /// `size_t`.
    U64(u64),
    /// `float`.
    F32(f32),
    /// `double`.
    F64(f64),
}

/// A queue of a device: what is in one comes in order, what is in two comes as it likes, but where one waits for an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Launches, and the copies that wait for them.
    Kernels,
    /// [`Device::copy_to_device`].
    ToDevice,
    /// [`Device::copy_to_host`].
    ToHost,
}

/// A GPU, or what stands for one.
///
/// Calls come in the order in which they are made, from whatever thread; a launch may still run when its call returns. What
/// goes on in the lanes of copies is the caller's to order, by events.
///
/// # Errors
///
/// Every call fails with a [`DeviceError`]; also one that was well, when something launched before it failed.
#[expect(clippy::missing_errors_doc, reason = "said once above, for all calls")]
pub trait Device: fmt::Debug + Send + Sync {
    /// Memory on the device, given back when it is dropped.
    type Memory: fmt::Debug + Send + Sync;

    /// Memory of the host that stays where it is, so that the device, and others of this kind, copy from and to it by themselves.
    type Pinned: fmt::Debug + Send + Sync;

    /// A point in a lane that another lane can wait for.
    type Event: fmt::Debug + Send + Sync;

    /// What it is, for people.
    fn name(&self) -> &str;

    /// Its generation: compute capability, major and minor.
    fn capability(&self) -> (u32, u32);

    /// Whether memory that is no longer used is worth keeping for the next that asks: where giving it back costs time.
    fn keeps_memory(&self) -> bool {
        true
    }

    /// Bytes of memory that it hands out, where that is known before: a plan can be held to it.
    fn room(&self) -> Option<u64> {
        None
    }

    /// Memory of any contents; `bytes` is not zero. It begins at a multiple of 16 bytes at least.
    fn allocate(&self, bytes: usize) -> Result<Self::Memory, DeviceError>;

    /// Fills `bytes` bytes from byte `at` on with zeros.
    fn clear(&self, memory: &Self::Memory, at: usize, bytes: usize) -> Result<(), DeviceError>;

    /// Copies to the device. `from` is read before this returns.
    fn upload(&self, from: &[u8], to: &Self::Memory, at: usize) -> Result<(), DeviceError>;

    /// Copies from the device, when everything launched before is done.
    fn download(&self, from: &Self::Memory, at: usize, to: &mut [u8]) -> Result<(), DeviceError>;

    /// Starts a kernel.
    ///
    /// # Safety
    ///
    /// The arguments are those of the kernel, in number, kind and meaning, and every thread of this shape stays inside
    /// the memory that they point to.
    unsafe fn launch(
        &self,
        kernel: Kernel,
        shape: Shape,
        arguments: &[Argument<'_, Self::Memory>],
    ) -> Result<(), DeviceError>;

    /// Whether [`Self::multiply`] may do something.
    fn multiplies(&self) -> bool {
        false
    }

    /// Starts a product by a library of products, in its place among the launches. `false` where there is none, or it has no
    /// way for this one; then nothing is done.
    ///
    /// # Safety
    ///
    /// Operands hold what the description says.
    unsafe fn multiply(
        &self,
        _product: &Description,
        _operands: &Operands<'_, Self::Memory>,
    ) -> Result<bool, DeviceError> {
        Ok(false)
    }

    /// Waits until everything launched is done.
    fn synchronise(&self) -> Result<(), DeviceError>;

    /// Memory of the host, of any contents.
    fn pin(&self, bytes: usize) -> Result<Self::Pinned, DeviceError>;

    /// Reads such memory when everything in all lanes is done.
    fn read_pinned(&self, from: &Self::Pinned, at: usize, to: &mut [u8]) -> Result<(), DeviceError>;

    /// Writes such memory when everything in all lanes is done.
    fn write_pinned(&self, from: &[u8], to: &Self::Pinned, at: usize) -> Result<(), DeviceError>;

    /// Starts a copy of `bytes` bytes, in its lane. Both sides have to live until it is done.
    fn copy_to_device(
        &self,
        from: &Self::Pinned,
        from_at: usize,
        to: &Self::Memory,
        to_at: usize,
        bytes: usize,
    ) -> Result<(), DeviceError>;

    /// As [`Self::copy_to_device`], the other way.
    fn copy_to_host(
        &self,
        from: &Self::Memory,
        from_at: usize,
        to: &Self::Pinned,
        to_at: usize,
        bytes: usize,
    ) -> Result<(), DeviceError>;

    /// A new event, which nobody waits for as long as it is not recorded.
    fn event(&self) -> Result<Self::Event, DeviceError>;

    /// Puts the event behind what is in a lane now; where it stood before is forgotten.
    fn record(&self, event: &Self::Event, lane: Lane) -> Result<(), DeviceError>;

    /// What comes into `lane` from now on waits for where the event stands now. It may be one of another device of this kind.
    fn wait(&self, lane: Lane, event: &Self::Event) -> Result<(), DeviceError>;
}
