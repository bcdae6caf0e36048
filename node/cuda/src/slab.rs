//! A device whose memory is one slab, taken once and handed out by [`Arena`]: nothing is asked of the driver during a
//! step, and what a plan found to fit does fit.

#![allow(unsafe_code, reason = "launches are handed on, with the same promise")]

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use talkoot_trainer::arena::{Arena, Place};

use crate::{
    device::{Argument, Device, DeviceError, Lane, Shape},
    kernels::Kernel,
    multiply::{Description, Operands},
};

/// A device with one slab of its memory.
#[derive(Debug)]
pub struct Slab<D: Device> {
    device: D,
    memory: D::Memory,
    arena: Arc<Mutex<Arena>>,
}

/// A piece of a slab, given back when it is dropped. Kernels that were started before may still read or write it: what is
/// started later, into the same place, comes after that. Whoever has copies of other lanes come and go through a piece gives it
/// back when kernels have been told to wait for them.
#[derive(Debug)]
pub struct Piece {
    place: Place,
    bytes: usize,
    arena: Arc<Mutex<Arena>>,
}

impl Drop for Piece {
    fn drop(&mut self) {
        open(&self.arena).give(self.place);
    }
}

fn open(arena: &Mutex<Arena>) -> MutexGuard<'_, Arena> {
    arena.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Piece {
    /// Byte `at` of the piece, of which `bytes` bytes are meant, as a byte of the slab.
    fn byte(&self, at: usize, bytes: usize) -> usize {
        let inside = at.checked_add(bytes).is_some_and(|end| end <= self.bytes);
        assert!(inside, "bytes {at} to {at} + {bytes} of {}", self.bytes);
        self.place.start as usize + at
    }
}

impl<D: Device> Slab<D> {
    /// Takes `bytes` bytes of a device.
    ///
    /// # Errors
    ///
    /// [`DeviceError::OutOfMemory`] when it has not so many: before any step, not within one.
    pub fn reserve(device: D, bytes: usize) -> Result<Self, DeviceError> {
        let memory = device.allocate(bytes)?;
        Ok(Self { device, memory, arena: Arc::new(Mutex::new(Arena::new(bytes as u64))) })
    }

    /// The device below.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// The end of the highest piece that was ever taken, in bytes: what a slab has to be at least for the same work.
    pub fn highest(&self) -> u64 {
        open(&self.arena).highest()
    }

    /// Bytes that are taken.
    pub fn taken(&self) -> u64 {
        open(&self.arena).taken()
    }
}

impl<D: Device> Device for Slab<D> {
    type Memory = Piece;
    type Pinned = D::Pinned;
    type Event = D::Event;

    fn name(&self) -> &str {
        self.device.name()
    }

    fn capability(&self) -> (u32, u32) {
        self.device.capability()
    }

    /// Taking and giving costs next to nothing here, and what is kept would be missing elsewhere.
    fn keeps_memory(&self) -> bool {
        false
    }

    fn room(&self) -> Option<u64> {
        Some(open(&self.arena).capacity())
    }

    fn allocate(&self, bytes: usize) -> Result<Piece, DeviceError> {
        let place = open(&self.arena).take(bytes as u64).map_err(|_| DeviceError::OutOfMemory { bytes })?;
        Ok(Piece { place, bytes, arena: Arc::clone(&self.arena) })
    }

    fn clear(&self, memory: &Piece, at: usize, bytes: usize) -> Result<(), DeviceError> {
        self.device.clear(&self.memory, memory.byte(at, bytes), bytes)
    }

    fn upload(&self, from: &[u8], to: &Piece, at: usize) -> Result<(), DeviceError> {
        self.device.upload(from, &self.memory, to.byte(at, from.len()))
    }

    fn download(&self, from: &Piece, at: usize, to: &mut [u8]) -> Result<(), DeviceError> {
        self.device.download(&self.memory, from.byte(at, to.len()), to)
    }

    unsafe fn launch(
        &self,
        kernel: Kernel,
        shape: Shape,
        arguments: &[Argument<'_, Piece>],
    ) -> Result<(), DeviceError> {
        let below = |argument: &Argument<'_, Piece>| match *argument {
            Argument::Memory(piece, at) => Argument::Memory(&self.memory, piece.byte(at, 0)),
            Argument::Null => Argument::Null,
            Argument::U32(value) => Argument::U32(value),
            Argument::U64(value) => Argument::U64(value),
            Argument::F32(value) => Argument::F32(value),
            Argument::F64(value) => Argument::F64(value),
        };
        let arguments: Vec<Argument<'_, D::Memory>> = arguments.iter().map(below).collect();
        // SAFETY: the caller's promise; pieces lie inside the slab.
        unsafe { self.device.launch(kernel, shape, &arguments) }
    }

    fn multiplies(&self) -> bool {
        self.device.multiplies()
    }

    unsafe fn multiply(
        &self,
        product: &Description,
        operands: &Operands<'_, Piece>,
    ) -> Result<bool, DeviceError> {
        let operands = operands.map(|(piece, at)| (&self.memory, piece.byte(at, 0)));
        // SAFETY: the caller's promise; pieces lie inside the slab.
        unsafe { self.device.multiply(product, &operands) }
    }

    fn synchronise(&self) -> Result<(), DeviceError> {
        self.device.synchronise()
    }

    fn pin(&self, bytes: usize) -> Result<D::Pinned, DeviceError> {
        self.device.pin(bytes)
    }

    fn read_pinned(&self, from: &D::Pinned, at: usize, to: &mut [u8]) -> Result<(), DeviceError> {
        self.device.read_pinned(from, at, to)
    }

    fn write_pinned(&self, from: &[u8], to: &D::Pinned, at: usize) -> Result<(), DeviceError> {
        self.device.write_pinned(from, to, at)
    }

    fn copy_to_device(
        &self,
        from: &D::Pinned,
        from_at: usize,
        to: &Piece,
        to_at: usize,
        bytes: usize,
    ) -> Result<(), DeviceError> {
        self.device.copy_to_device(from, from_at, &self.memory, to.byte(to_at, bytes), bytes)
    }

    fn copy_to_host(
        &self,
        from: &Piece,
        from_at: usize,
        to: &D::Pinned,
        to_at: usize,
        bytes: usize,
    ) -> Result<(), DeviceError> {
        self.device.copy_to_host(&self.memory, from.byte(from_at, bytes), to, to_at, bytes)
    }

    fn event(&self) -> Result<D::Event, DeviceError> {
        self.device.event()
    }

    fn record(&self, event: &D::Event, lane: Lane) -> Result<(), DeviceError> {
        self.device.record(event, lane)
    }

    fn wait(&self, lane: Lane, event: &D::Event) -> Result<(), DeviceError> {
        self.device.wait(lane, event)
    }
}
