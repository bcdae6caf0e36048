//! Copies beside kernels: streams, events, and memory of the host that cannot be moved.
//!
//! Kernels run in the context's default stream; the two streams of copies do not wait for it but where an event says so.

#![allow(unsafe_code, reason = "the driver is a C library")]

use std::{ffi::c_void, sync::Arc};

use cudarc::driver::{
    result::{self, event, stream},
    sys,
};

use super::{
    super::{DeviceError, Lane},
    Handle,
    context::{Context, said},
};

/// The streams of a GPU that are not the default one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Streams {
    to_device: Handle<sys::CUstream_st>,
    to_host: Handle<sys::CUstream_st>,
}

impl Streams {
    /// The context has to be the current one. Streams live as long as the context.
    pub(super) fn new() -> Result<Self, DeviceError> {
        let new = || stream::create(stream::StreamKind::NonBlocking).map(Handle).map_err(said);
        Ok(Self { to_device: new()?, to_host: new()? })
    }

    pub(super) fn of(&self, lane: Lane) -> sys::CUstream {
        match lane {
            Lane::Kernels => stream::null(),
            Lane::ToDevice => self.to_device.0,
            Lane::ToHost => self.to_host.0,
        }
    }
}

/// A point in a stream.
#[derive(Debug)]
pub struct Event {
    context: Arc<Context>,
    event: Handle<sys::CUevent_st>,
}

impl Event {
    /// The context has to be the current one.
    pub(super) fn new(context: Arc<Context>) -> Result<Self, DeviceError> {
        let event = event::create(sys::CUevent_flags::CU_EVENT_DISABLE_TIMING).map_err(said)?;
        Ok(Self { context, event: Handle(event) })
    }

    pub(super) fn record(&self, stream: sys::CUstream) -> Result<(), DeviceError> {
        // SAFETY: both live; their context is the current one.
        unsafe { event::record(self.event.0, stream) }.map_err(said)
    }

    pub(super) fn wait(&self, stream: sys::CUstream) -> Result<(), DeviceError> {
        let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: as above.
        unsafe { stream::wait_event(stream, self.event.0, flags) }.map_err(said)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            // SAFETY: made once in `new`; the driver keeps what still waits for it.
            let _gone = unsafe { event::destroy(self.event.0) };
        }
    }
}

/// Memory of the host that stays where it is, so that the GPU reads and writes it by itself.
#[derive(Debug)]
pub struct Pinned {
    context: Arc<Context>,
    start: Handle<c_void>,
    bytes: usize,
}

impl Pinned {
    /// The context has to be the current one.
    pub(super) fn new(context: Arc<Context>, bytes: usize) -> Result<Self, DeviceError> {
        // of use to every context, not only to this one
        let flags = sys::CU_MEMHOSTALLOC_PORTABLE;
        // SAFETY: a number of bytes that is not zero.
        let start = unsafe { result::malloc_host(bytes.max(1), flags) }.map_err(|error| match error.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => DeviceError::OutOfHostMemory { bytes },
            _ => said(error),
        })?;
        Ok(Self { context, start: Handle(start), bytes })
    }

    /// Address of a part.
    pub(super) fn part(&self, at: usize, bytes: usize) -> *mut u8 {
        let inside = at.checked_add(bytes).is_some_and(|end| end <= self.bytes);
        assert!(inside, "bytes {at} to {at} + {bytes} of {}", self.bytes);
        // SAFETY: inside the allocation.
        unsafe { self.start.0.cast::<u8>().add(at) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if self.context.enter().is_ok() {
            let _waited = result::ctx::synchronize();
            // SAFETY: allocated once in `new`; no copy is under way any more.
            let _gone = unsafe { result::free_host(self.start.0) };
        }
    }
}
