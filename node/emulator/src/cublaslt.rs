//! A model of cuBLASLt's product, as its documentation has it: column-major matrices, bf16 operands, f32 sums.
//!
//! ```text
//! d [i + j m] = sum over l of op(a)[i, l] op(b)[l, j] + c [i + j m] + bias [i]
//! op(x)[i, j] = x [i + j ld], or x [j + i ld] where it is turned; ld is the number of rows as it is stored
//! ```
//! It knows nothing of our layouts, so that a mistake in how they are asked for is a wrong result here.

#![allow(unsafe_code, reason = "matrices lie in the device's memory")]

use talkoot_cuda::multiply::{Description, Operands};

use crate::emulator::Memory;

/// What stands for the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Products {
    /// There is none.
    #[default]
    Absent,
    /// It multiplies.
    Present,
    /// It has no way for any product.
    Declines,
    /// It fails at every product.
    Fails,
}

/// `count` numbers of memory from byte `at` on.
fn start_of(memory: &Memory, at: usize, count: usize, each: usize) -> *mut u8 {
    let end = at + count * each;
    assert!(end <= memory.len(), "bytes {at} to {end} of {}", memory.len());
    memory.address(at)
}

fn floats(memory: &Memory, at: usize, count: usize) -> Vec<f32> {
    let from = start_of(memory, at, count, 4).cast::<f32>();
    // SAFETY: so many numbers of the buffer, which no kernel writes at the moment.
    (0..count).map(|i| unsafe { from.add(i).read_unaligned() }).collect()
}

fn halves(memory: &Memory, at: usize, count: usize) -> Vec<f32> {
    let from = start_of(memory, at, count, 2).cast::<u16>();
    // SAFETY: as above.
    (0..count).map(|i| f32::from_bits(u32::from(unsafe { from.add(i).read_unaligned() }) << 16)).collect()
}

/// Does the product.
pub(crate) fn multiply(product: &Description, operands: &Operands<'_, Memory>) {
    let [m, n, k] = [product.m, product.n, product.k].map(|size| size as usize);
    let ((a, at_a), (b, at_b), (d, at_d)) = (operands.a, operands.b, operands.d);
    let (a, b) = (halves(a, at_a, m * k), halves(b, at_b, k * n));
    let [lda, ldb] = [product.stored_a()[0], product.stored_b()[0]].map(|size| size as usize);
    let of_a = |i: usize, l: usize| a[if product.turn_a { l + i * lda } else { i + l * lda }];
    let of_b = |l: usize, j: usize| b[if product.turn_b { j + l * ldb } else { l + j * ldb }];
    let bias = operands.bias.map(|(memory, at)| floats(memory, at, m));
    assert_eq!(
        (bias.is_some(), operands.c.is_some()),
        (product.bias, product.add),
        "what is added is described"
    );
    let c = operands.c.map(|(memory, at)| floats(memory, at, m * n));
    let to = start_of(d, at_d, m * n, 4).cast::<f32>();
    for j in 0..n {
        for i in 0..m {
            let sum: f32 = (0..k).map(|l| of_a(i, l) * of_b(l, j)).sum();
            let added = c.as_ref().map_or(0.0, |c| c[i + j * m]) + bias.as_ref().map_or(0.0, |bias| bias[i]);
            // SAFETY: inside the buffer.
            unsafe { to.add(i + j * m).write_unaligned(sum + added) };
        }
    }
}
