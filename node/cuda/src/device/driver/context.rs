//! What belongs to one GPU within this process, and what the driver says when it fails.

#![allow(unsafe_code, reason = "the driver is a C library")]

use cudarc::driver::{DriverError, result, sys};

use super::{super::DeviceError, Gpu};

/// The primary context of a GPU: shared with whoever else in this process uses it.
#[derive(Debug)]
pub(super) struct Context {
    context: sys::CUcontext,
    device: sys::CUdevice,
}

// SAFETY: the driver lets every thread make a context its current one.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    /// Takes a share in the GPU's context.
    pub(super) fn of(gpu: &Gpu) -> Result<Self, DeviceError> {
        let device = result::device::get(gpu.ordinal).map_err(said)?;
        // SAFETY: the driver just gave us this device.
        let context = unsafe { result::primary_ctx::retain(device) }.map_err(said)?;
        Ok(Self { context, device })
    }

    /// Makes it the calling thread's current one: what every call to the driver is about.
    pub(super) fn enter(&self) -> Result<(), DeviceError> {
        // SAFETY: the context is retained as long as `self` lives.
        unsafe { result::ctx::set_current(self.context) }.map_err(said)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once in `of`, released once here.
        let _gone = unsafe { result::primary_ctx::release(self.device) };
    }
}

/// A failure in the driver's own words. No room is no room, also where a module is loaded or a kernel first starts, which
/// is when the driver makes room for it: the GPU is not lost, and has room another time.
pub(super) fn said(error: DriverError) -> DeviceError {
    if error.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY {
        return DeviceError::OutOfMemory { bytes: 0 };
    }
    let name =
        error.error_name().map_or_else(|_| format!("{:?}", error.0), |name| name.to_string_lossy().into());
    let text =
        error.error_string().map_or_else(|_| String::new(), |text| format!(": {}", text.to_string_lossy()));
    DeviceError::Failed { reason: format!("{name}{text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_room_is_no_lost_device() {
        let no_room = said(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY));
        assert_eq!(no_room, DeviceError::OutOfMemory { bytes: 0 });
    }
}
