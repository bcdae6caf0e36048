//! Decimal numbers in hashed documents: read as floats, written as the one shortest text.

use std::fmt;

use minicbor::{Decode, Decoder, Encode, Encoder};
use serde::{Deserialize, Serialize};

/// A finite number that a person wrote: a learning rate, a probability.
///
/// TOML holds it as a float. The canonical bytes hold the shortest decimal text that reads back as the same
/// `f64`, so that nothing hashed depends on how a language prints its floats.
#[derive(Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Real(f64);

impl Real {
    /// Wraps `value`; whether it makes sense in its place is for the owner's `validate` to say.
    pub const fn new(value: f64) -> Self {
        Self(value)
    }

    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }

    /// The nearest single-precision number.
    pub const fn as_f32(self) -> f32 {
        self.0 as f32
    }
}

impl fmt::Display for Real {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Real {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl<C> Encode<C> for Real {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(&self.to_string())?;
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for Real {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        let at = d.position();
        let wrong =
            || minicbor::decode::Error::message("a number is a decimal text of at most 40 characters").at(at);
        let text = d.str()?;
        if text.len() > 40 {
            return Err(wrong());
        }
        let value: f64 = text.parse().map_err(|_| wrong())?;
        if value.is_finite() { Ok(Self(value)) } else { Err(wrong()) }
    }
}
