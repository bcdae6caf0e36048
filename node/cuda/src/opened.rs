//! A GPU as it is used: its memory asked for as work goes, or taken once at the start as a [`Slab`].

#![allow(unsafe_code, reason = "launches are handed on, with the same promise")]

use crate::{
    device::{Argument, Device, DeviceError, Lane, Shape},
    kernels::Kernel,
    multiply::{Description, Operands},
    slab::{Piece, Slab},
};

/// A device, with or without a slab.
#[derive(Debug)]
pub enum Opened<D: Device> {
    /// Memory is asked of the driver as work goes.
    AsItGoes(D),
    /// Memory is one slab, taken at the start.
    Slab(Slab<D>),
}

/// Memory of an [`Opened`].
#[derive(Debug)]
pub enum Memory<D: Device> {
    /// The driver's.
    AsItGoes(D::Memory),
    /// A piece of the slab.
    Piece(Piece),
}

const OTHERS: &str = "memory is used on the device that it was taken from";

impl<D: Device> Memory<D> {
    fn whole(&self) -> &D::Memory {
        let Self::AsItGoes(memory) = self else { unreachable!("{OTHERS}") };
        memory
    }

    fn piece(&self) -> &Piece {
        let Self::Piece(piece) = self else { unreachable!("{OTHERS}") };
        piece
    }
}

/// An argument as what is below takes it.
fn below<'a, A, B>(argument: &Argument<'a, A>, memory: impl Fn(&'a A) -> &'a B) -> Argument<'a, B> {
    match *argument {
        Argument::Memory(of, at) => Argument::Memory(memory(of), at),
        Argument::Null => Argument::Null,
        Argument::U32(value) => Argument::U32(value),
        Argument::U64(value) => Argument::U64(value),
        Argument::F32(value) => Argument::F32(value),
        Argument::F64(value) => Argument::F64(value),
    }
}

impl<D: Device> Opened<D> {
    /// The device, with `slab` bytes of its memory taken at once, or as work goes.
    ///
    /// # Errors
    ///
    /// [`DeviceError::OutOfMemory`] when it has not so many bytes.
    pub fn new(device: D, slab: Option<usize>) -> Result<Self, DeviceError> {
        Ok(match slab {
            Some(bytes) => Self::Slab(Slab::reserve(device, bytes)?),
            None => Self::AsItGoes(device),
        })
    }

    /// The device below.
    pub fn device(&self) -> &D {
        match self {
            Self::AsItGoes(device) => device,
            Self::Slab(slab) => slab.device(),
        }
    }
}

impl<D: Device> Device for Opened<D> {
    type Memory = Memory<D>;
    type Pinned = D::Pinned;
    type Event = D::Event;

    fn name(&self) -> &str {
        self.device().name()
    }

    fn capability(&self) -> (u32, u32) {
        self.device().capability()
    }

    fn keeps_memory(&self) -> bool {
        match self {
            Self::AsItGoes(device) => device.keeps_memory(),
            Self::Slab(slab) => slab.keeps_memory(),
        }
    }

    fn room(&self) -> Option<u64> {
        match self {
            Self::AsItGoes(device) => device.room(),
            Self::Slab(slab) => slab.room(),
        }
    }

    fn allocate(&self, bytes: usize) -> Result<Memory<D>, DeviceError> {
        Ok(match self {
            Self::AsItGoes(device) => Memory::AsItGoes(device.allocate(bytes)?),
            Self::Slab(slab) => Memory::Piece(slab.allocate(bytes)?),
        })
    }

    fn clear(&self, memory: &Memory<D>, at: usize, bytes: usize) -> Result<(), DeviceError> {
        match self {
            Self::AsItGoes(device) => device.clear(memory.whole(), at, bytes),
            Self::Slab(slab) => slab.clear(memory.piece(), at, bytes),
        }
    }

    fn upload(&self, from: &[u8], to: &Memory<D>, at: usize) -> Result<(), DeviceError> {
        match self {
            Self::AsItGoes(device) => device.upload(from, to.whole(), at),
            Self::Slab(slab) => slab.upload(from, to.piece(), at),
        }
    }

    fn download(&self, from: &Memory<D>, at: usize, to: &mut [u8]) -> Result<(), DeviceError> {
        match self {
            Self::AsItGoes(device) => device.download(from.whole(), at, to),
            Self::Slab(slab) => slab.download(from.piece(), at, to),
        }
    }

    unsafe fn launch(
        &self,
        kernel: Kernel,
        shape: Shape,
        arguments: &[Argument<'_, Memory<D>>],
    ) -> Result<(), DeviceError> {
        match self {
            Self::AsItGoes(device) => {
                let arguments: Vec<_> = arguments.iter().map(|a| below(a, Memory::whole)).collect();
                // SAFETY: the caller's promise.
                unsafe { device.launch(kernel, shape, &arguments) }
            }
            Self::Slab(slab) => {
                let arguments: Vec<_> = arguments.iter().map(|a| below(a, Memory::piece)).collect();
                // SAFETY: the caller's promise.
                unsafe { slab.launch(kernel, shape, &arguments) }
            }
        }
    }

    fn multiplies(&self) -> bool {
        self.device().multiplies()
    }

    unsafe fn multiply(
        &self,
        product: &Description,
        operands: &Operands<'_, Memory<D>>,
    ) -> Result<bool, DeviceError> {
        match self {
            // SAFETY: the caller's promise.
            Self::AsItGoes(device) => unsafe {
                device.multiply(product, &operands.map(|(memory, at)| (memory.whole(), at)))
            },
            // SAFETY: the caller's promise.
            Self::Slab(slab) => unsafe {
                slab.multiply(product, &operands.map(|(memory, at)| (memory.piece(), at)))
            },
        }
    }

    fn synchronise(&self) -> Result<(), DeviceError> {
        match self {
            Self::AsItGoes(device) => device.synchronise(),
            Self::Slab(slab) => slab.synchronise(),
        }
    }

    fn pin(&self, bytes: usize) -> Result<D::Pinned, DeviceError> {
        self.device().pin(bytes)
    }

    fn read_pinned(&self, from: &D::Pinned, at: usize, to: &mut [u8]) -> Result<(), DeviceError> {
        self.device().read_pinned(from, at, to)
    }

    fn write_pinned(&self, from: &[u8], to: &D::Pinned, at: usize) -> Result<(), DeviceError> {
        self.device().write_pinned(from, to, at)
    }

    fn copy_to_device(
        &self,
        from: &D::Pinned,
        from_at: usize,
        to: &Memory<D>,
        to_at: usize,
        bytes: usize,
    ) -> Result<(), DeviceError> {
        match self {
            Self::AsItGoes(device) => device.copy_to_device(from, from_at, to.whole(), to_at, bytes),
            Self::Slab(slab) => slab.copy_to_device(from, from_at, to.piece(), to_at, bytes),
        }
    }

    fn copy_to_host(
        &self,
        from: &Memory<D>,
        from_at: usize,
        to: &D::Pinned,
        to_at: usize,
        bytes: usize,
    ) -> Result<(), DeviceError> {
        match self {
            Self::AsItGoes(device) => device.copy_to_host(from.whole(), from_at, to, to_at, bytes),
            Self::Slab(slab) => slab.copy_to_host(from.piece(), from_at, to, to_at, bytes),
        }
    }

    fn event(&self) -> Result<D::Event, DeviceError> {
        self.device().event()
    }

    fn record(&self, event: &D::Event, lane: Lane) -> Result<(), DeviceError> {
        self.device().record(event, lane)
    }

    fn wait(&self, lane: Lane, event: &D::Event) -> Result<(), DeviceError> {
        self.device().wait(lane, event)
    }
}
