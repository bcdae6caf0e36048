//! cuBLASLt, NVIDIA's library of matrix products, where it is found at run time. **Not yet run on a GPU.**
//!
//! Of the ways that it knows, those that divide the inner index among blocks are ruled out, so that a GPU and a version of
//! the library always give the same bits.

#![allow(unsafe_code, reason = "cuBLASLt is a C library")]

use std::{
    collections::HashMap,
    ffi::c_void,
    sync::{Mutex, PoisonError},
};

use cudarc::cublaslt::{result, sys};

use super::{super::DeviceError, Memory};
use crate::multiply::{Description, Operands};

/// Every function of the library that we call, beside its version. A library that lacks one is not called at all.
const FUNCTIONS: [&str; 12] = [
    "cublasLtCreate",
    "cublasLtDestroy",
    "cublasLtMatmul",
    "cublasLtMatmulAlgoGetHeuristic",
    "cublasLtMatmulDescCreate",
    "cublasLtMatmulDescSetAttribute",
    "cublasLtMatmulDescDestroy",
    "cublasLtMatrixLayoutCreate",
    "cublasLtMatrixLayoutDestroy",
    "cublasLtMatmulPreferenceCreate",
    "cublasLtMatmulPreferenceSetAttribute",
    "cublasLtMatmulPreferenceDestroy",
];

/// The oldest version whose numbers of attributes are ours: that of CUDA 12.
const OLDEST: usize = 120_000;

/// Why our own kernels multiply, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoLibrary {
    /// It was not found.
    #[error(
        "cuBLASLt was not found (libcublasLt.so.12, cublasLt64_12.dll), so our own kernels multiply: `pip install \
         nvidia-cublas-cu12` brings it, and its folder nvidia/cublas/lib belongs into LD_LIBRARY_PATH"
    )]
    NotFound,
    /// There is one of another kind.
    #[error("the library that calls itself cuBLASLt lacks {function}, so our own kernels multiply")]
    Incomplete {
        /// What it lacks.
        function: &'static str,
    },
    /// It is older than what we were made for.
    #[error(
        "cuBLASLt {found} is older than {OLDEST}, so our own kernels multiply: `pip install nvidia-cublas-cu12`"
    )]
    TooOld {
        /// What `cublasLtGetVersion` says.
        found: usize,
    },
}

/// The version of the library, where it can be used.
///
/// # Errors
///
/// [`NoLibrary`] says why not.
pub fn library() -> Result<usize, NoLibrary> {
    // SAFETY: loading the library runs its initialisers, as every program that uses it does.
    if !unsafe { sys::is_culib_present() } {
        return Err(NoLibrary::NotFound);
    }
    // SAFETY: the library is present, or this would panic.
    let library = unsafe { sys::culib() };
    for function in ["cublasLtGetVersion"].into_iter().chain(FUNCTIONS) {
        // SAFETY: the symbol is looked for and never called under this type.
        if unsafe { library.get::<unsafe extern "C" fn()>(function.as_bytes()) }.is_err() {
            return Err(NoLibrary::Incomplete { function });
        }
    }
    // SAFETY: it has this function.
    let found = unsafe { sys::cublasLtGetVersion() };
    if found < OLDEST { Err(NoLibrary::TooOld { found }) } else { Ok(found) }
}

/// Bytes that the library may use beside a product's matrices, as NVIDIA recommends them for a generation.
pub const fn workspace_bytes(capability: (u32, u32)) -> usize {
    if capability.0 >= 9 { 32 << 20 } else { 4 << 20 }
}

/// The way that the library chose for a product; none, where it has none.
type Way = Option<sys::cublasLtMatmulAlgo_t>;

/// The library, opened on a GPU.
#[derive(Debug)]
pub(super) struct CublasLt {
    handle: sys::cublasLtHandle_t,
    workspace: Option<Memory>,
    /// By product and alignment of its matrices: a way for the one need not suit the other.
    ways: Mutex<HashMap<(Description, [u32; 4]), Way>>,
}

// SAFETY: cuBLASLt's handle may be used from every thread whose current context is its own.
unsafe impl Send for CublasLt {}
// SAFETY: as above; ways are behind a lock.
unsafe impl Sync for CublasLt {}

/// A descriptor that is destroyed when it goes.
struct Owned<T: Copy>(T, unsafe fn(T) -> Result<(), result::CublasError>);

impl<T: Copy> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: created by us, and nobody else has it.
        let _gone = unsafe { (self.1)(self.0) };
    }
}

impl Drop for CublasLt {
    fn drop(&mut self) {
        // SAFETY: created by us; nothing is called with it any more.
        let _gone = unsafe { result::destroy_handle(self.handle) };
    }
}

fn said(error: result::CublasError) -> DeviceError {
    DeviceError::Failed { reason: format!("cuBLASLt: {:?}", error.0) }
}

/// The largest power of two up to 256 that divides an address.
fn alignment(address: u64) -> u32 {
    1 << address.trailing_zeros().min(8)
}

impl CublasLt {
    /// In the calling thread's current context; `workspace` may be left out where there is no room.
    pub(super) fn open(workspace: Option<Memory>) -> Result<Self, DeviceError> {
        let handle = result::create_handle().map_err(said)?;
        Ok(Self { handle, workspace, ways: Mutex::default() })
    }

    fn room(&self) -> (u64, usize) {
        self.workspace.as_ref().map_or((0, 0), |memory| (memory.part(0, memory.bytes), memory.bytes))
    }

    /// Starts a product on the default stream; `false` where the library has no way for it.
    ///
    /// # Safety
    ///
    /// Operands hold what the description says.
    pub(super) unsafe fn multiply(
        &self,
        product: &Description,
        operands: &Operands<'_, Memory>,
    ) -> Result<bool, DeviceError> {
        use sys::{cublasLtMatmulDescAttributes_t as Of, cudaDataType_t as Type};
        let address = |(memory, at): (&Memory, usize)| memory.part(at, 0);
        let [a, b, d] = [operands.a, operands.b, operands.d].map(address);
        let c = operands.c.map_or(d, address);
        let description =
            result::create_matmul_desc(sys::cublasComputeType_t::CUBLAS_COMPUTE_32F, Type::CUDA_R_32F);
        let description = Owned(description.map_err(said)?, result::destroy_matmul_desc);
        let set = |attribute, value: *const c_void, bytes| {
            // SAFETY: a descriptor of ours, and a value of the attribute's type.
            unsafe { result::set_matmul_desc_attribute(description.0, attribute, value, bytes) }.map_err(said)
        };
        for (attribute, turned) in [
            (Of::CUBLASLT_MATMUL_DESC_TRANSA, product.turn_a),
            (Of::CUBLASLT_MATMUL_DESC_TRANSB, product.turn_b),
        ] {
            // CUBLAS_OP_N and CUBLAS_OP_T
            let operation = i32::from(turned);
            set(attribute, (&raw const operation).cast(), size_of::<i32>())?;
        }
        if let Some(bias) = operands.bias.map(address) {
            let epilogue = sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS;
            set(Of::CUBLASLT_MATMUL_DESC_EPILOGUE, (&raw const epilogue).cast(), size_of_val(&epilogue))?;
            set(Of::CUBLASLT_MATMUL_DESC_BIAS_POINTER, (&raw const bias).cast(), size_of::<u64>())?;
        }
        let layout = |kind, [rows, columns]: [u64; 2]| {
            let made = result::create_matrix_layout(kind, rows, columns, rows.cast_signed());
            Ok::<_, DeviceError>(Owned(made.map_err(said)?, result::destroy_matrix_layout))
        };
        let of_a = layout(Type::CUDA_R_16BF, product.stored_a())?;
        let of_b = layout(Type::CUDA_R_16BF, product.stored_b())?;
        let of_d = layout(Type::CUDA_R_32F, [product.m, product.n])?;
        let layouts = [of_a.0, of_b.0, of_d.0, of_d.0];
        let Some(way) = self.way(product, description.0, layouts, [a, b, c, d].map(alignment))? else {
            return Ok(false);
        };
        let (alpha, beta) = (1.0f32, if product.add { 1.0f32 } else { 0.0 });
        let (room, bytes) = self.room();
        // SAFETY: descriptors are alive, memory is what they say, and the factors are read before this returns.
        unsafe {
            result::matmul(
                self.handle,
                description.0,
                (&raw const alpha).cast(),
                (&raw const beta).cast(),
                a as *const c_void,
                of_a.0,
                b as *const c_void,
                of_b.0,
                c as *const c_void,
                of_d.0,
                d as *mut c_void,
                of_d.0,
                &raw const way,
                room as *mut c_void,
                bytes,
                std::ptr::null_mut(),
            )
        }
        .map_err(said)?;
        Ok(true)
    }

    /// The library's way for a product, asked for once.
    fn way(
        &self,
        product: &Description,
        description: sys::cublasLtMatmulDesc_t,
        layouts: [sys::cublasLtMatrixLayout_t; 4],
        alignments: [u32; 4],
    ) -> Result<Way, DeviceError> {
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&way) = ways.get(&(*product, alignments)) {
            return Ok(way);
        }
        let way = self.ask(description, layouts, alignments)?;
        ways.insert((*product, alignments), way);
        Ok(way)
    }

    fn ask(
        &self,
        description: sys::cublasLtMatmulDesc_t,
        [of_a, of_b, of_c, of_d]: [sys::cublasLtMatrixLayout_t; 4],
        [a, b, c, d]: [u32; 4],
    ) -> Result<Way, DeviceError> {
        use sys::cublasLtMatmulPreferenceAttributes_t as Of;
        let wishes = Owned(result::create_matmul_pref().map_err(said)?, result::destroy_matmul_pref);
        let set = |attribute, value: *const c_void, bytes| {
            // SAFETY: a preference of ours, and a value of the attribute's type.
            unsafe { result::set_matmul_pref_attribute(wishes.0, attribute, value, bytes) }.map_err(said)
        };
        let room = self.room().1 as u64;
        set(Of::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, (&raw const room).cast(), size_of::<u64>())?;
        let numbers = [
            // CUBLASLT_REDUCTION_SCHEME_NONE
            (Of::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, 0),
            (Of::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, a),
            (Of::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, b),
            (Of::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, c),
            (Of::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, d),
        ];
        for (attribute, number) in numbers {
            set(attribute, (&raw const number).cast(), size_of::<u32>())?;
        }
        // SAFETY: all of them are ours and alive.
        let found = unsafe {
            result::get_matmul_algo_heuristic(self.handle, description, of_a, of_b, of_c, of_d, wishes.0)
        };
        match found {
            Ok(found) => Ok(Some(found.algo)),
            Err(error) if error.0 == sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED => Ok(None),
            Err(error) => Err(said(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alignments_are_powers_of_two_up_to_256() {
        for (address, expected) in [(0x1000, 256), (0x1004, 4), (0x1010, 16), (0x1101, 1), (0, 256)] {
            assert_eq!(alignment(address), expected, "{address:#x}");
        }
    }

    #[test]
    fn a_machine_without_the_library_says_how_to_get_it() {
        match library() {
            Ok(version) => assert!(version >= OLDEST),
            Err(missing) => assert!(missing.to_string().contains("our own kernels multiply"), "{missing}"),
        }
    }
}
