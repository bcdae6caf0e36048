//! What there is: the driver's library, its version, its GPUs.

#![allow(unsafe_code, reason = "the driver is a C library")]

use cudarc::driver::{result, sys};
use serde::Serialize;

use crate::{
    fast::OLDEST_CAPABILITY as OLDEST_TENSOR_CORES,
    ptx::{OLDEST_CAPABILITY, OLDEST_DRIVER},
};

/// Every function of the driver that we call. A library that lacks one is not called at all.
const FUNCTIONS: [&str; 23] = [
    "cuInit",
    "cuDriverGetVersion",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuDeviceGet",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDeviceGetAttribute",
    "cuDeviceTotalMem_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxRelease_v2",
    "cuCtxSetCurrent",
    "cuCtxSynchronize",
    "cuMemAlloc_v2",
    "cuMemFree_v2",
    "cuMemcpyHtoD_v2",
    "cuMemcpyDtoH_v2",
    "cuMemsetD8_v2",
    "cuModuleLoadData",
    "cuMemGetInfo_v2",
    "cuModuleGetFunction",
    "cuFuncSetAttribute",
    "cuLaunchKernel",
];

/// Why no GPU can be used, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Missing {
    /// There is no driver.
    #[error(
        "no NVIDIA driver was found (libcuda.so.1, nvcuda.dll): install the driver of your GPU, {needed} or newer; \
         in a container, pass the GPU through (docker run --gpus all)",
        needed = driver_name(OLDEST_DRIVER)
    )]
    NoDriver,
    /// There is a library of that name which is none.
    #[error("the NVIDIA driver's library lacks {function}: install the driver anew")]
    Incomplete {
        /// What it lacks.
        function: &'static str,
    },
    /// The driver is too old for our kernels.
    #[error(
        "the NVIDIA driver is for CUDA {major}.{minor}, and the kernels need {needed} or newer: update the driver",
        major = found / 1000,
        minor = found % 1000 / 10,
        needed = driver_name(OLDEST_DRIVER)
    )]
    DriverTooOld {
        /// What `cuDriverGetVersion` says.
        found: i32,
    },
    /// The driver doesn't start, or has no GPU.
    #[error("the NVIDIA driver gives no GPU: {reason}")]
    Refused {
        /// What it says.
        reason: String,
    },
    /// There is no GPU of this number.
    #[error("there is no GPU {index}: {count} found, counted from 0")]
    NoSuchGpu {
        /// What was asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// Several were asked for where there can be one.
    #[error("{asked} is several GPUs, and this takes one GPU: say cuda:N")]
    OneOnly {
        /// What was asked for.
        asked: String,
    },
    /// The GPU is older than what kernels are made for.
    #[error(
        "{name} has compute capability {major}.{minor}, and kernels are made for {least}.{least_minor} and newer (GeForce \
         20 and GTX 16 series on): this machine trains on its processor",
        least = OLDEST_CAPABILITY.0,
        least_minor = OLDEST_CAPABILITY.1
    )]
    GpuTooOld {
        /// The GPU.
        name: String,
        /// Compute capability, major.
        major: u32,
        /// Compute capability, minor.
        minor: u32,
    },
    /// The GPU trains, but not in the fast class.
    #[error(
        "{name} has compute capability {major}.{minor}, and tensor cores multiply bf16 from {least}.{least_minor} on (GeForce \
         30 series): it trains in the exact class",
        least = OLDEST_TENSOR_CORES.0,
        least_minor = OLDEST_TENSOR_CORES.1
    )]
    NoTensorCores {
        /// The GPU.
        name: String,
        /// Compute capability, major.
        major: u32,
        /// Compute capability, minor.
        minor: u32,
    },
}

/// A GPU as the driver describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gpu {
    /// The driver's number of it.
    pub ordinal: i32,
    /// Its name.
    pub name: String,
    /// Compute capability, major and minor: its generation.
    pub capability: (u32, u32),
    /// Bytes of memory.
    pub memory: u64,
    /// Multiprocessors.
    pub multiprocessors: u32,
}

impl Gpu {
    /// Whether kernels are made for it.
    ///
    /// # Errors
    ///
    /// [`Missing::GpuTooOld`] when not.
    pub fn usable(&self) -> Result<(), Missing> {
        let (major, minor) = self.capability;
        if self.capability < OLDEST_CAPABILITY {
            return Err(Missing::GpuTooOld { name: self.name.clone(), major, minor });
        }
        Ok(())
    }
}

/// The driver and its GPUs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Survey {
    /// What `cuDriverGetVersion` says: 12040 for CUDA 12.4.
    pub cuda_version: i32,
    /// All GPUs, usable or not, in the driver's order.
    pub gpus: Vec<Gpu>,
}

/// Looks for the driver and asks it what it has.
///
/// # Errors
///
/// [`Missing`] when there is no driver, or none that can be used.
pub fn survey() -> Result<Survey, Missing> {
    // SAFETY: loading the driver's library runs its initialisers, as every program that uses a GPU does.
    if !unsafe { sys::is_culib_present() } {
        return Err(Missing::NoDriver);
    }
    // SAFETY: the library is present, or this would panic.
    let library = unsafe { sys::culib() };
    for function in FUNCTIONS {
        // SAFETY: the symbol is looked for and never called under this type.
        if unsafe { library.get::<unsafe extern "C" fn()>(function.as_bytes()) }.is_err() {
            return Err(Missing::Incomplete { function });
        }
    }
    let refused = |error| Missing::Refused { reason: super::said(error).to_string() };
    let mut cuda_version = 0;
    // SAFETY: a pointer to an integer of ours.
    let asked = unsafe { sys::cuDriverGetVersion(&raw mut cuda_version) };
    asked.result().map_err(refused)?;
    if cuda_version < OLDEST_DRIVER {
        return Err(Missing::DriverTooOld { found: cuda_version });
    }
    result::init().map_err(refused)?;
    let count = result::device::get_count().map_err(refused)?;
    let gpus = (0..count).map(describe).collect::<Result<_, _>>().map_err(refused)?;
    Ok(Survey { cuda_version, gpus })
}

fn describe(ordinal: i32) -> Result<Gpu, result::DriverError> {
    use sys::CUdevice_attribute as Attribute;
    let device = result::device::get(ordinal)?;
    let ask = |attribute| {
        // SAFETY: the driver just gave us this device.
        let value = unsafe { result::device::get_attribute(device, attribute) };
        value.map(i32::unsigned_abs)
    };
    Ok(Gpu {
        ordinal,
        name: result::device::get_name(device)?,
        capability: (
            ask(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            ask(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        // SAFETY: as above.
        memory: unsafe { result::device::total_mem(device) }? as u64,
        multiprocessors: ask(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
    })
}

/// A version of the driver as its users know it.
fn driver_name(cuda_version: i32) -> String {
    let (major, minor) = (cuda_version / 1000, cuda_version % 1000 / 10);
    if cuda_version == OLDEST_DRIVER {
        return format!("driver 525 (CUDA {major}.{minor})");
    }
    format!("a driver for CUDA {major}.{minor}")
}
