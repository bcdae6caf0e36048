//! Micro-kernels: a tile of `MR x NR` running chains, kept in registers.
//!
//! All of them do the same arithmetic, element for element; they differ in how many elements they do at once.

#![allow(unsafe_code, reason = "vector instructions and the pointers that they load from and store to")]

use super::{
    matrix::Matrix,
    pack::{SQUARE, pack_rows, turn_plainly},
};

/// A tile of the product as one kind of processor computes it.
pub(super) trait Kernel {
    /// Rows of a tile.
    const MR: usize;
    /// Columns of a tile.
    const NR: usize;

    /// Goes on with the chains of one tile over `depth` steps: `c[i, j] = fma(a[k, i], b[k, j], c[i, j])` for ascending
    /// `k`.
    ///
    /// `b` holds `depth` groups of `NR` numbers; row `i` of the tile begins at `c + i * stride`. With `fresh` the chains
    /// begin at zero and `c` is only written.
    ///
    /// # Safety
    ///
    /// The processor has the kernel's instructions; `MR` rows of `depth` steps of `a`, `b` and the tile's rows lie inside
    /// their allocations; nobody else reads or writes the tile meanwhile.
    unsafe fn tile(depth: usize, a: Left, b: *const f32, c: *mut f32, stride: usize, fresh: bool);

    /// Packs rows of a left operand in panels of `MR`.
    ///
    /// # Safety
    ///
    /// The processor has the kernel's instructions.
    unsafe fn pack_left(a: Matrix<'_>, panels: &mut [f32]);

    /// Packs rows of a turned right operand in panels of `NR`.
    ///
    /// # Safety
    ///
    /// The processor has the kernel's instructions.
    unsafe fn pack_right(b: Matrix<'_>, panels: &mut [f32]);
}

/// Where a tile's left operand lies: row `i` of step `k` at `start + i * row + k * step`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left {
    pub(super) start: *const f32,
    pub(super) row: usize,
    pub(super) step: usize,
}

/// Plain loops, for any processor. The compiler makes vectors of them where there are fused multiply-adds.
pub(super) struct Portable;

impl Kernel for Portable {
    const MR: usize = 4;
    const NR: usize = 16;

    unsafe fn tile(depth: usize, a: Left, b: *const f32, c: *mut f32, stride: usize, fresh: bool) {
        let mut chains = [[0.0f32; 16]; 4];
        // SAFETY: the caller promises that the panel holds `depth` groups.
        let b = unsafe { std::slice::from_raw_parts(b, depth * 16) };
        if !fresh {
            for (i, row) in chains.iter_mut().enumerate() {
                // SAFETY: the caller promises that the tile's rows lie inside their allocation.
                row.copy_from_slice(unsafe { std::slice::from_raw_parts(c.add(i * stride), 16) });
            }
        }
        for (k, b) in b.as_chunks::<16>().0.iter().enumerate() {
            for (i, row) in chains.iter_mut().enumerate() {
                // SAFETY: the caller promises that the left operand's rows lie inside their allocation.
                let left = unsafe { *a.start.add(i * a.row + k * a.step) };
                for (chain, &b) in row.iter_mut().zip(b) {
                    *chain = left.mul_add(b, *chain);
                }
            }
        }
        for (i, row) in chains.iter().enumerate() {
            // SAFETY: as above, and nobody else uses the tile.
            unsafe { std::slice::from_raw_parts_mut(c.add(i * stride), 16) }.copy_from_slice(row);
        }
    }

    unsafe fn pack_left(a: Matrix<'_>, panels: &mut [f32]) {
        pack_rows::<4>(a, panels, turn_plainly);
    }

    unsafe fn pack_right(b: Matrix<'_>, panels: &mut [f32]) {
        pack_rows::<16>(b, panels, turn_plainly);
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
            unsafe fn run(depth: usize, a: Left, b: *const f32, c: *mut f32, stride: usize, fresh: bool) {
                use std::arch::x86_64::{
                    _MM_HINT_T0, _mm_prefetch, $fma, $load, $splat, $store, $zero,
                };

                let mut chains = [[$zero(); $vectors]; $rows];
                // SAFETY: the caller promises `depth` groups in both panels and a tile inside its allocation, which is
                // all that is read or written here.
                unsafe {
                    for (i, row) in chains.iter_mut().enumerate() {
                        // the tile below comes next: ask for both ends of its rows now, as a row may lie across two
                        // lines; asking for what is not there does no harm
                        let below = c.wrapping_add(($rows + i) * stride);
                        _mm_prefetch::<_MM_HINT_T0>(below.cast());
                        _mm_prefetch::<_MM_HINT_T0>(below.wrapping_add($vectors * $lanes - 1).cast());
                        if !fresh {
                            for (v, chain) in row.iter_mut().enumerate() {
                                *chain = $load(c.add(i * stride + v * $lanes));
                            }
                        }
                    }
                    // A pointer for each three rows: they lie at it, and once and twice an index from it, which one
                    // address can say. One pointer that is moved from row to row makes a step wait for the last one.
                    let mut at = [a.start; usize::div_ceil($rows, 3)];
                    for (g, group) in at.iter_mut().enumerate() {
                        *group = group.wrapping_add(3 * g * a.row);
                    }
                    let mut b = b;
                    for _ in 0..depth {
                        let mut columns = [$zero(); $vectors];
                        for (v, column) in columns.iter_mut().enumerate() {
                            *column = $load(b.add(v * $lanes));
                        }
                        for (i, row) in chains.iter_mut().enumerate() {
                            let left = $splat(*at[i / 3].add(i % 3 * a.row));
                            for (chain, &column) in row.iter_mut().zip(&columns) {
                                *chain = $fma(left, column, *chain);
                            }
                        }
                        for group in &mut at {
                            *group = group.wrapping_add(a.step);
                        }
                        b = b.wrapping_add($vectors * $lanes);
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
            unsafe fn tile(depth: usize, a: Left, b: *const f32, c: *mut f32, stride: usize, fresh: bool) {
                // SAFETY: the caller's promises are those of `run`.
                unsafe { Self::run(depth, a, b, c, stride, fresh) }
            }

            #[target_feature(enable = $features)]
            unsafe fn pack_left(a: Matrix<'_>, panels: &mut [f32]) {
                pack_rows::<$rows>(a, panels, |square, ahead, stride| turn(square, ahead, stride));
            }

            #[target_feature(enable = $features)]
            unsafe fn pack_right(b: Matrix<'_>, panels: &mut [f32]) {
                pack_rows::<{ $vectors * $lanes }>(b, panels, |square, ahead, stride| turn(square, ahead, stride));
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
    Avx512, "avx512f,avx2,fma", 14 x 2 x 16,
    _mm512_setzero_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_set1_ps, _mm512_fmadd_ps
);

/// Turns rows into columns: pairs, then fours, then halves change places. Rows of the next square lie on a page each,
/// which the processor does not foresee.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn turn(square: &mut [[f32; SQUARE]; SQUARE], ahead: *const f32, stride: usize) {
    use std::arch::x86_64::{
        _MM_HINT_T0, _mm_prefetch, _mm256_loadu_ps, _mm256_permute2f128_ps, _mm256_setzero_ps,
        _mm256_shuffle_ps, _mm256_storeu_ps, _mm256_unpackhi_ps, _mm256_unpacklo_ps,
    };
    for i in 0..SQUARE {
        _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_add(i * stride).cast());
    }
    let mut rows = [_mm256_setzero_ps(); SQUARE];
    for (vector, row) in rows.iter_mut().zip(square.iter()) {
        // SAFETY: a row has eight numbers.
        *vector = unsafe { _mm256_loadu_ps(row.as_ptr()) };
    }
    let [a, b, c, d, e, f, g, h] = rows;
    let pairs = [
        (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b)),
        (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d)),
        (_mm256_unpacklo_ps(e, f), _mm256_unpackhi_ps(e, f)),
        (_mm256_unpacklo_ps(g, h), _mm256_unpackhi_ps(g, h)),
    ];
    let mut fours = [[_mm256_setzero_ps(); 4]; 2];
    for (four, [(low, high), (next_low, next_high)]) in
        fours.iter_mut().zip([[pairs[0], pairs[1]], [pairs[2], pairs[3]]])
    {
        *four = [
            _mm256_shuffle_ps::<0b0100_0100>(low, next_low),
            _mm256_shuffle_ps::<0b1110_1110>(low, next_low),
            _mm256_shuffle_ps::<0b0100_0100>(high, next_high),
            _mm256_shuffle_ps::<0b1110_1110>(high, next_high),
        ];
    }
    for i in 0..4 {
        let (low, high) = (
            _mm256_permute2f128_ps::<0x20>(fours[0][i], fours[1][i]),
            _mm256_permute2f128_ps::<0x31>(fours[0][i], fours[1][i]),
        );
        // SAFETY: a row has eight numbers.
        unsafe {
            _mm256_storeu_ps(square[i].as_mut_ptr(), low);
            _mm256_storeu_ps(square[i + 4].as_mut_ptr(), high);
        }
    }
}
