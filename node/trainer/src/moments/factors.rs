//! Second moments in brief: the means of their rows and columns, rounded to two bits of mantissa.

use rayon::prelude::*;

use super::range_coder::{Decoder, Encoder, Ended, Model};
use crate::{config::ModelConfig, contribution::Layout};

/// Bits of a code: an exponent of eight and a mantissa of two.
const CODE_BITS: u32 = 10;

/// Bits that an f32 has below a code.
const DROPPED: u32 = 31 - CODE_BITS;

/// Code of 2^-100: smaller means are zero.
const SMALLEST: u16 = (127 - 100) << 2;

/// Code of 2^60: larger means are this.
const LARGEST: u16 = (127 + 60) << 2;

/// Means smaller than their list's largest by more than this many codes, 2^7.75, are raised to that.
///
/// A second moment of next to nothing would let AdamW move its parameter by a full learning rate in the direction of noise;
/// in a contribution, such entries would crowd out those that matter. With too large a moment the parameter waits for a
/// gradient worth the name, which then makes its own moment.
const DEEPEST: u16 = 31;

/// A parameter as a matrix: its first axis by all others. With a single axis, or none, it is one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatrixShape {
    /// Length of the first axis.
    pub rows: usize,
    /// Product of the other axes.
    pub columns: usize,
}

/// The matrices of a layout's tensors, in its order.
pub fn matrix_shapes(config: &ModelConfig, layout: &Layout) -> Vec<MatrixShape> {
    let shapes = config.parameter_shapes();
    let of = |(name, elements): &(String, u64)| {
        let rows = shapes.get(name).filter(|shape| shape.len() > 1).map_or(1, |shape| shape[0].max(1));
        MatrixShape { rows, columns: *elements as usize / rows }
    };
    layout.tensors().iter().map(of).collect()
}

/// Means of the rows and columns of one parameter's second moments, as codes.
///
/// A code `c` stands for the f32 whose bits are `c << 21`: a power of two times 1, 1.25, 1.5 or 1.75. A list is all zeros, or
/// its codes are those of 2^-100 to 2^60 and none is more than 31 below the largest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ParameterFactors {
    /// A code for every row.
    pub rows: Vec<u16>,
    /// A code for every column.
    pub columns: Vec<u16>,
}

/// Second moments of all trained parameters in brief, in the layout's order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Factors(pub Vec<ParameterFactors>);

/// Why bytes are not the factors of a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FactorsError {
    /// The bytes end too early.
    #[error("the second moments end within tensor {tensor}")]
    Truncated {
        /// Which tensor of the layout.
        tensor: usize,
    },
    /// A list's largest code is none that encoding writes.
    #[error("tensor {tensor}: {code} is no code of a list's largest mean")]
    Code {
        /// Which tensor of the layout.
        tensor: usize,
        /// The code read.
        code: u32,
    },
    /// Bytes left over, or another spelling of the same factors.
    #[error("the second moments are not spelled as an encoder spells them")]
    NotCanonical,
}

impl ParameterFactors {
    /// Of `values`, a row-major matrix; each mean is divided by `correction`, what is left of AdamW's bias towards zero.
    ///
    /// Sums are in f64, in fixed order: along a row in eight lanes (element `i` in lane `i mod 8`, then lane after lane), down
    /// a column row after row. Means are rounded to f32, then to a code, halves away from zero.
    ///
    /// # Panics
    ///
    /// When there are not `shape.rows * shape.columns` values.
    pub fn of(values: &[f32], shape: MatrixShape, correction: f64) -> Self {
        let MatrixShape { rows, columns } = shape;
        assert_eq!(values.len(), rows * columns, "second moments of another shape");
        let code = |sum: f64, count: usize| code_of((sum / count as f64 / correction) as f32);
        let along: Vec<u16> = if rows == 1 {
            vec![code(lanes(values), columns)]
        } else {
            values.par_chunks(columns).map(|row| code(lanes(row), columns)).collect()
        };
        let mut down = vec![0u16; columns];
        down.par_chunks_mut(BLOCK).enumerate().for_each(|(block, codes)| {
            let mut sums = [0f64; BLOCK];
            let start = block * BLOCK;
            for row in values.chunks(columns) {
                for (sum, value) in sums.iter_mut().zip(&row[start..start + codes.len()]) {
                    *sum += f64::from(*value);
                }
            }
            for (code_at, sum) in codes.iter_mut().zip(sums) {
                *code_at = code(sum, rows);
            }
        });
        Self { rows: settled(along), columns: settled(down) }
    }
}

/// Columns that are summed together.
const BLOCK: usize = 512;

fn lanes(row: &[f32]) -> f64 {
    let mut lanes = [0f64; 8];
    let (groups, rest) = row.as_chunks::<8>();
    for group in groups {
        for (lane, &value) in lanes.iter_mut().zip(group) {
            *lane += f64::from(value);
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane += f64::from(value);
    }
    lanes.iter().sum()
}

fn code_of(value: f32) -> u16 {
    if value.is_nan() || value < value_of(SMALLEST) {
        return 0;
    }
    (((value.to_bits() + (1 << (DROPPED - 1))) >> DROPPED) as u16).min(LARGEST)
}

/// What a code stands for.
pub(super) const fn value_of(code: u16) -> f32 {
    f32::from_bits((code as u32) << DROPPED)
}

/// The list with what is far below its largest code raised; a list of zeros stays one.
fn settled(mut codes: Vec<u16>) -> Vec<u16> {
    let largest = codes.iter().copied().max().unwrap_or(0);
    if largest > 0 {
        let least = (largest - DEEPEST).max(SMALLEST);
        for code in &mut codes {
            *code = (*code).max(least);
        }
    }
    codes
}

/// Odds of the symbols of rows and of columns.
struct Models {
    rows: Model<32>,
    columns: Model<32>,
}

impl Models {
    const fn new() -> Self {
        Self { rows: Model::new(), columns: Model::new() }
    }
}

impl Factors {
    /// Canonical bytes; their length depends on what they say.
    ///
    /// Each tensor's rows, then its columns. A list is its largest code in ten even bits and, unless that is 0, for each code
    /// one of 32 symbols: how far it lies below the largest.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (mut encoder, mut models) = (Encoder::new(), Models::new());
        for parameter in &self.0 {
            write(&mut encoder, &mut models.rows, &parameter.rows);
            write(&mut encoder, &mut models.columns, &parameter.columns);
        }
        encoder.finish()
    }

    /// Reads what [`Self::to_bytes`] wrote for these shapes.
    ///
    /// # Errors
    ///
    /// [`FactorsError`] when the bytes are not canonical. Nothing is allocated by what they claim.
    pub fn from_bytes(bytes: &[u8], shapes: &[MatrixShape]) -> Result<Self, FactorsError> {
        let truncated = |tensor| move |Ended| FactorsError::Truncated { tensor };
        let mut decoder = Decoder::new(bytes).map_err(truncated(0))?;
        let mut models = Models::new();
        let mut all = Vec::with_capacity(shapes.len());
        for (tensor, shape) in shapes.iter().enumerate() {
            let mut list = |model: &mut Model<32>, len| read(&mut decoder, model, len, tensor);
            let rows = list(&mut models.rows, shape.rows)?;
            let columns = list(&mut models.columns, shape.columns)?;
            all.push(ParameterFactors { rows, columns });
        }
        let factors = Self(all);
        if !decoder.is_done() || factors.to_bytes() != bytes {
            return Err(FactorsError::NotCanonical);
        }
        Ok(factors)
    }

    /// For each mean, the middle one of several members' (the upper of two in the middle): fewer than half of them
    /// cannot move it beyond what the others say.
    ///
    /// # Panics
    ///
    /// When there are none, or they are of different shapes.
    pub fn median(list: &[Self]) -> Self {
        let (first, others) = list.split_first().expect("there is somebody");
        let parameters = first.0.iter().enumerate().map(|(at, parameter)| {
            let of = |pick: fn(&ParameterFactors) -> &Vec<u16>| {
                let rest: Vec<&[u16]> = others.iter().map(|other| pick(&other.0[at]).as_slice()).collect();
                settled(middle(pick(parameter), &rest))
            };
            ParameterFactors { rows: of(|p| &p.rows), columns: of(|p| &p.columns) }
        });
        Self(parameters.collect())
    }
}

fn middle(first: &[u16], rest: &[&[u16]]) -> Vec<u16> {
    let mut said = Vec::with_capacity(rest.len() + 1);
    first
        .iter()
        .enumerate()
        .map(|(at, code)| {
            said.clear();
            said.push(*code);
            said.extend(rest.iter().map(|other| other[at]));
            said.sort_unstable();
            said[said.len() / 2]
        })
        .collect()
}

fn write(encoder: &mut Encoder, model: &mut Model<32>, codes: &[u16]) {
    let largest = codes.iter().copied().max().unwrap_or(0);
    encoder.plain(u32::from(largest), CODE_BITS);
    if largest == 0 {
        return;
    }
    for &code in codes {
        encoder.symbol(model, u32::from(largest - code));
    }
}

fn read(
    decoder: &mut Decoder<'_>,
    model: &mut Model<32>,
    len: usize,
    tensor: usize,
) -> Result<Vec<u16>, FactorsError> {
    let truncated = |Ended| FactorsError::Truncated { tensor };
    let largest = decoder.plain(CODE_BITS).map_err(truncated)?;
    if largest == 0 {
        return Ok(vec![0; len]);
    }
    if !(u32::from(SMALLEST)..=u32::from(LARGEST)).contains(&largest) {
        return Err(FactorsError::Code { tensor, code: largest });
    }
    let mut codes = Vec::with_capacity(len);
    for _ in 0..len {
        let below = decoder.symbol(model).map_err(truncated)?;
        codes.push(((largest - below) as u16).max(SMALLEST));
    }
    Ok(codes)
}
