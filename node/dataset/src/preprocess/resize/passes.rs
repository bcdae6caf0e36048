//! The two passes, written so that a compiler makes vectors of them.
//!
//! Both come down to one thing: a block of neighbouring bytes of some rows, each row with one weight, summed. The pass
//! down finds its rows in the picture. The pass across first turns a band of the picture on its side, so that one
//! source column of the band lies in a row of bytes.
//!
//! The same code is compiled twice, for any processor and for AVX2, and chosen at run time. Sums are exact integers,
//! so both give the same bits.

#![allow(
    unsafe_code,
    reason = "calling code that was compiled for AVX2, after looking whether there is AVX2"
)]

use super::taps::{FRACTION_BITS, Taps};

const HALF: i32 = 1 << (FRACTION_BITS - 1);
/// Bytes summed at a time: eight registers of 32 bytes hold their sums.
const BLOCK: usize = 64;
/// Rows of the picture turned on their side at a time.
const BAND: usize = 20;
/// Bytes of a column of a band, padded to a block: 20 pixels of 3 bytes, and 4 that nobody looks at.
const COLUMN: usize = 64;

macro_rules! with_avx2 {
    ($name:ident, $plain:ident, $wide:ident) => {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2")]
        fn $wide(source: &[u8], stride: usize, rows: usize, taps: &Taps) -> Vec<u8> {
            $plain(source, stride, rows, taps)
        }

        fn $name(source: &[u8], stride: usize, rows: usize, taps: &Taps) -> Vec<u8> {
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: the processor has AVX2, which is all that the function asks for.
                return unsafe { $wide(source, stride, rows, taps) };
            }
            $plain(source, stride, rows, taps)
        }
    };
}

with_avx2!(dispatch_down, plain_down, wide_down);
with_avx2!(dispatch_across, plain_across, wide_across);

/// `source` has rows of `stride` bytes; the result has one for each tap.
pub(super) fn down(source: &[u8], stride: usize, taps: &Taps) -> Vec<u8> {
    dispatch_down(source, stride, 0, taps)
}

/// `source` has `height` rows of `width` pixels; the result's rows have a pixel for each tap.
pub(super) fn across(source: &[u8], width: usize, height: usize, taps: &Taps) -> Vec<u8> {
    dispatch_across(source, width, height, taps)
}

/// Rounds and clips a sum of fixed-point products.
#[inline(always)]
fn to_u8(sum: i32) -> u8 {
    (sum >> FRACTION_BITS).clamp(0, 255) as u8
}

/// The weighted sum of blocks that lie `stride` bytes apart, the first at the start of `source`.
#[inline(always)]
fn sum_block(source: &[u8], stride: usize, weights: &[i32]) -> [u8; BLOCK] {
    let mut sums = [HALF; BLOCK];
    for (row, &weight) in source.chunks(stride).zip(weights) {
        let Some(row) = row.first_chunk::<BLOCK>() else { break };
        for (sum, &sample) in sums.iter_mut().zip(row) {
            *sum += i32::from(sample) * weight;
        }
    }
    sums.map(to_u8)
}

#[inline(always)]
fn plain_down(source: &[u8], stride: usize, _: usize, taps: &Taps) -> Vec<u8> {
    let mut out = Vec::with_capacity(stride * taps.len());
    let whole = stride / BLOCK * BLOCK;
    for (first, weights) in taps.iter() {
        let rows = &source[first * stride..];
        for column in (0..whole).step_by(BLOCK) {
            out.extend_from_slice(&sum_block(&rows[column..], stride, weights));
        }
        for column in whole..stride {
            let column = rows[column..].iter().step_by(stride);
            let sum =
                column.zip(weights).fold(HALF, |sum, (&sample, &weight)| sum + i32::from(sample) * weight);
            out.push(to_u8(sum));
        }
    }
    out
}

#[inline(always)]
fn plain_across(source: &[u8], width: usize, height: usize, taps: &Taps) -> Vec<u8> {
    let (stride, out_stride) = (width * 3, taps.len() * 3);
    let mut out = vec![0; out_stride * height];
    let mut turned = vec![0; COLUMN * width];
    for (band, out) in source.chunks(stride * BAND).zip(out.chunks_mut(out_stride * BAND)) {
        for (row, pixels) in band.chunks_exact(stride).enumerate() {
            for (column, pixel) in
                turned.as_chunks_mut::<COLUMN>().0.iter_mut().zip(pixels.as_chunks::<3>().0)
            {
                column[row * 3..row * 3 + 3].copy_from_slice(pixel);
            }
        }
        for (at, (first, weights)) in taps.iter().enumerate() {
            let column = sum_block(&turned[first * COLUMN..], COLUMN, weights);
            for (pixels, pixel) in out.chunks_exact_mut(out_stride).zip(column.as_chunks::<3>().0) {
                pixels[at * 3..at * 3 + 3].copy_from_slice(pixel);
            }
        }
    }
    out
}

#[cfg(test)]
pub(super) mod plain {
    //! The same passes as compiled for any processor.

    use super::*;

    pub(crate) fn down(source: &[u8], stride: usize, taps: &Taps) -> Vec<u8> {
        plain_down(source, stride, 0, taps)
    }

    pub(crate) fn across(source: &[u8], width: usize, height: usize, taps: &Taps) -> Vec<u8> {
        plain_across(source, width, height, taps)
    }
}
