//! Micro-kernels: a tile of `MR x NR` running chains, kept in registers.
//!
//! All of them do the same arithmetic, element for element; they differ in how many elements they do at once.

#![allow(unsafe_code, reason = "vector instructions and the pointers that they load from and store to")]

/// A tile of the product as one kind of processor computes it.
pub(super) trait Kernel {
    /// Rows of a tile.
    const MR: usize;
    /// Columns of a tile.
    const NR: usize;

    /// Goes on with the chains of one tile over `depth` steps: `c[i, j] = fma(a[k, i], b[k, j], c[i, j])` for ascending
    /// `k`.
    ///
    /// `a` holds `depth` groups of `MR` numbers, `b` `depth` groups of `NR`; row `i` of the tile begins at
    /// `c + i * stride`. With `fresh` the chains begin at zero and `c` is only written.
    ///
    /// # Safety
    ///
    /// The processor has the kernel's instructions; `a`, `b` and the tile's rows lie inside their allocations; nobody
    /// else reads or writes the tile meanwhile.
    unsafe fn tile(depth: usize, a: *const f32, b: *const f32, c: *mut f32, stride: usize, fresh: bool);
}

/// Plain loops, for any processor. The compiler makes vectors of them where there are fused multiply-adds.
pub(super) struct Portable;

impl Kernel for Portable {
    const MR: usize = 4;
    const NR: usize = 16;

    unsafe fn tile(depth: usize, a: *const f32, b: *const f32, c: *mut f32, stride: usize, fresh: bool) {
        let mut chains = [[0.0f32; 16]; 4];
        // SAFETY: the caller promises that both panels hold `depth` groups.
        let (a, b) =
            unsafe { (std::slice::from_raw_parts(a, depth * 4), std::slice::from_raw_parts(b, depth * 16)) };
        if !fresh {
            for (i, row) in chains.iter_mut().enumerate() {
                // SAFETY: the caller promises that the tile's rows lie inside their allocation.
                row.copy_from_slice(unsafe { std::slice::from_raw_parts(c.add(i * stride), 16) });
            }
        }
        for (a, b) in a.as_chunks::<4>().0.iter().zip(b.as_chunks::<16>().0) {
            for (row, &a) in chains.iter_mut().zip(a) {
                for (chain, &b) in row.iter_mut().zip(b) {
                    *chain = a.mul_add(b, *chain);
                }
            }
        }
        for (i, row) in chains.iter().enumerate() {
            // SAFETY: as above, and nobody else uses the tile.
            unsafe { std::slice::from_raw_parts_mut(c.add(i * stride), 16) }.copy_from_slice(row);
        }
    }
}

/// One micro-kernel in vector instructions: `$rows` rows of `$vectors` vectors of `$lanes` numbers.
#[cfg(target_arch = "x86_64")]
macro_rules! vector_kernel {
    (
        $(#[$meta:meta])* $name:ident, $features:literal, $rows:literal x $vectors:literal x $lanes:literal,
        $zero:ident, $load:ident, $store:ident, $splat:ident, $fma:ident
    ) => {
        $(#[$meta])*
        pub(super) struct $name;

        impl $name {
            #[target_feature(enable = $features)]
            unsafe fn run(depth: usize, a: *const f32, b: *const f32, c: *mut f32, stride: usize, fresh: bool) {
                use std::arch::x86_64::{$fma, $load, $splat, $store, $zero};

                let mut chains = [[$zero(); $vectors]; $rows];
                // SAFETY: the caller promises `depth` groups in both panels and a tile inside its allocation, which is
                // all that is read or written here.
                unsafe {
                    for (i, row) in chains.iter_mut().enumerate() {
                        // the tile is wanted at the end of the loop: ask for it now
                        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(
                            c.add(i * stride).cast(),
                        );
                        if !fresh {
                            for (v, chain) in row.iter_mut().enumerate() {
                                *chain = $load(c.add(i * stride + v * $lanes));
                            }
                        }
                    }
                    let (mut a, mut b) = (a, b);
                    for _ in 0..depth {
                        let mut columns = [$zero(); $vectors];
                        for (v, column) in columns.iter_mut().enumerate() {
                            *column = $load(b.add(v * $lanes));
                        }
                        for (i, row) in chains.iter_mut().enumerate() {
                            let left = $splat(*a.add(i));
                            for (chain, &column) in row.iter_mut().zip(&columns) {
                                *chain = $fma(left, column, *chain);
                            }
                        }
                        a = a.add($rows);
                        b = b.add($vectors * $lanes);
                    }
                    for (i, row) in chains.iter().enumerate() {
                        for (v, &chain) in row.iter().enumerate() {
                            $store(c.add(i * stride + v * $lanes), chain);
                        }
                    }
                }
            }
        }

        impl Kernel for $name {
            const MR: usize = $rows;
            const NR: usize = $vectors * $lanes;

            #[inline]
            unsafe fn tile(depth: usize, a: *const f32, b: *const f32, c: *mut f32, stride: usize, fresh: bool) {
                // SAFETY: the caller's promises are those of `run`.
                unsafe { Self::run(depth, a, b, c, stride, fresh) }
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
vector_kernel!(
    /// AVX2: 12 of 16 registers hold chains.
    Avx2, "avx2,fma", 6 x 2 x 8,
    _mm256_setzero_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_set1_ps, _mm256_fmadd_ps
);

#[cfg(target_arch = "x86_64")]
vector_kernel!(
    /// AVX-512: 28 of 32 registers hold chains.
    Avx512, "avx512f", 14 x 2 x 16,
    _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_fmadd_ps
);
