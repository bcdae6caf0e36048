//! The three number types that weights are stored in.

use std::{fmt, str::FromStr};

use half::{bf16, f16};
use safetensors::Dtype;
use serde::Serialize;

/// How a weight is stored. Numbers are little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FloatType {
    /// IEEE single precision, what training computes in.
    F32,
    /// The upper half of a single: its range, 8 bits of precision.
    Bf16,
    /// IEEE half precision: 11 bits of precision, nothing above 65,504.
    F16,
}

/// A word that names none of the number types.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{got:?} is no number type of weights: f32, bf16 and f16 are")]
pub struct FloatTypeError {
    /// The word.
    pub got: String,
}

impl FloatType {
    /// Bytes of one number.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }

    /// Its name in `config.json`, which is PyTorch's.
    pub const fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
        }
    }

    /// Its name in a safetensors header.
    pub const fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::Bf16 => Dtype::BF16,
            Self::F16 => Dtype::F16,
        }
    }

    /// The number type of a safetensors header, when it is one of the three.
    pub const fn of(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F32 => Some(Self::F32),
            Dtype::BF16 => Some(Self::Bf16),
            Dtype::F16 => Some(Self::F16),
            _ => None,
        }
    }

    /// Appends the numbers of `bytes` to `values`; exact. Bytes that are no whole number at the end are left out.
    pub fn decode(self, bytes: &[u8], values: &mut Vec<f32>) {
        match self {
            Self::F32 => values.extend(bytes.as_chunks().0.iter().map(|&word| f32::from_le_bytes(word))),
            Self::Bf16 => {
                values.extend(bytes.as_chunks().0.iter().map(|&word| bf16::from_le_bytes(word).to_f32()))
            }
            Self::F16 => {
                values.extend(bytes.as_chunks().0.iter().map(|&word| f16::from_le_bytes(word).to_f32()))
            }
        }
    }

    /// Appends `values` as bytes, each rounded to the nearest number of this type, ties to even.
    ///
    /// # Errors
    ///
    /// The index of the first finite value that is beyond the largest number of this type.
    pub(super) fn encode(self, values: &[f32], bytes: &mut Vec<u8>) -> Result<(), usize> {
        for (index, &value) in values.iter().enumerate() {
            let lost = match self {
                Self::F32 => {
                    bytes.extend(value.to_le_bytes());
                    false
                }
                Self::Bf16 => {
                    let rounded = bf16::from_f32(value);
                    bytes.extend(rounded.to_le_bytes());
                    rounded.is_infinite()
                }
                Self::F16 => {
                    let rounded = f16::from_f32(value);
                    bytes.extend(rounded.to_le_bytes());
                    rounded.is_infinite()
                }
            };
            if lost && value.is_finite() {
                return Err(index);
            }
        }
        Ok(())
    }
}

impl fmt::Display for FloatType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        })
    }
}

impl FromStr for FloatType {
    type Err = FloatTypeError;

    fn from_str(text: &str) -> Result<Self, FloatTypeError> {
        match text {
            "f32" | "float32" => Ok(Self::F32),
            "bf16" | "bfloat16" => Ok(Self::Bf16),
            "f16" | "float16" => Ok(Self::F16),
            _ => Err(FloatTypeError { got: text.chars().take(40).collect() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [FloatType; 3] = [FloatType::F32, FloatType::Bf16, FloatType::F16];

    fn encode(kind: FloatType, value: f32) -> Result<Vec<u8>, usize> {
        let mut bytes = Vec::new();
        kind.encode(&[value], &mut bytes).map(|()| bytes)
    }

    /// Every 16-bit pattern that is a number comes back as it was.
    #[test]
    fn sixteen_bits_survive_single_precision() {
        for pattern in 0..=u16::MAX {
            for kind in [FloatType::Bf16, FloatType::F16] {
                let mut values = Vec::new();
                kind.decode(&pattern.to_le_bytes(), &mut values);
                if values[0].is_finite() {
                    assert_eq!(encode(kind, values[0]), Ok(pattern.to_le_bytes().to_vec()));
                }
            }
        }
    }

    /// Rounding by the definition: the lower half of the word decides, and an even upper half wins a tie.
    fn nearest_even(value: f32) -> u16 {
        let bits = value.to_bits();
        let (upper, lower) = ((bits >> 16) as u16, bits & 0xffff);
        upper + u16::from(lower > 0x8000 || (lower == 0x8000 && upper % 2 == 1))
    }

    proptest! {
        #[test]
        fn bf16_is_the_nearest_and_even_at_a_tie(bits: u32, tie: bool) {
            let value = f32::from_bits(if tie { bits & 0xffff_0000 | 0x8000 } else { bits });
            prop_assume!(value.is_finite() && value.abs() < 3.38e38);
            prop_assert_eq!(encode(FloatType::Bf16, value), Ok(nearest_even(value).to_le_bytes().to_vec()));
        }

        #[test]
        fn single_precision_is_kept_to_the_bit(bits: u32) {
            let value = f32::from_bits(bits);
            prop_assert_eq!(encode(FloatType::F32, value), Ok(bits.to_le_bytes().to_vec()));
        }
    }

    #[test]
    fn a_tie_of_half_precision_goes_to_even() {
        // between 2048 and 2050 the neighbours of f16 are 2 apart
        for (value, expected) in [(2049.0, 2048.0), (2051.0, 2052.0), (2049.1, 2050.0)] {
            assert_eq!(encode(FloatType::F16, value), Ok(f16::from_f32(expected).to_le_bytes().to_vec()));
        }
    }

    #[test]
    fn a_number_that_is_too_large_is_no_infinity() {
        assert_eq!(encode(FloatType::F16, 65_520.0), Err(0));
        assert!(encode(FloatType::F16, 65_519.0).is_ok());
        assert_eq!(encode(FloatType::Bf16, f32::MAX), Err(0));
        assert!(encode(FloatType::F32, f32::MAX).is_ok());
    }

    #[test]
    fn words_name_them() {
        for kind in ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
            assert_eq!(kind.torch_name().parse(), Ok(kind));
            assert_eq!(FloatType::of(kind.dtype()), Some(kind));
        }
        assert_eq!("int8".parse::<FloatType>(), Err(FloatTypeError { got: "int8".to_owned() }));
        assert_eq!(FloatType::of(Dtype::I64), None);
    }
}
