//! What the manifest says about the codec.

use super::Layout;

/// The codec's settings, as the manifest gives them; every member of a run uses the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CodecSettings {
    /// Entries per chunk, [`Self::MIN_CHUNK`] to [`Self::MAX_CHUNK`]; usually 4,096.
    pub chunk: u32,
    /// Entries sent of a full chunk, 1 to `chunk`; usually 64.
    pub k: u32,
    /// Bits per sent value, sign included: 1, 2, 4 or 8.
    pub bits: u8,
    /// What is kept of last round's residual, 0 (no feedback) to 1; usually 0.95.
    pub error_feedback: f32,
}

/// Why settings are refused.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The chunk is too small or too large.
    #[error("chunk must be {} to {}, got {got}", CodecSettings::MIN_CHUNK, CodecSettings::MAX_CHUNK)]
    Chunk {
        /// The chunk as given.
        got: u32,
    },
    /// `k` is zero or larger than the chunk.
    #[error("k must be 1 to the chunk's {chunk}, got {got}")]
    K {
        /// The chunk as given.
        chunk: u32,
        /// `k` as given.
        got: u32,
    },
    /// The number of bits is none of the four.
    #[error("bits must be 1, 2, 4 or 8, got {got}")]
    Bits {
        /// The bits as given.
        got: u8,
    },
    /// The feedback's decay is outside 0 to 1, or no number.
    #[error("error_feedback must be 0 to 1, got {got}")]
    ErrorFeedback {
        /// The decay as given.
        got: f32,
    },
}

impl Default for CodecSettings {
    /// SparseLoCo's published settings: 64 of 4,096, 2 bits, decay 0.95.
    fn default() -> Self {
        Self { chunk: 4096, k: 64, bits: 2, error_feedback: 0.95 }
    }
}

impl CodecSettings {
    /// Smallest chunk: below it, the scale's 16 bits would outweigh what it scales.
    pub const MIN_CHUNK: u32 = 16;
    /// Largest chunk: positions fit 16 bits.
    pub const MAX_CHUNK: u32 = 65_536;

    /// Checks every field against its bounds.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] names the first field out of bounds.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let Self { chunk, k, bits, error_feedback } = *self;
        if !(Self::MIN_CHUNK..=Self::MAX_CHUNK).contains(&chunk) {
            return Err(SettingsError::Chunk { got: chunk });
        }
        if !(1..=chunk).contains(&k) {
            return Err(SettingsError::K { chunk, got: k });
        }
        if !matches!(bits, 1 | 2 | 4 | 8) {
            return Err(SettingsError::Bits { got: bits });
        }
        // the sign is checked as well: -0.0 would be a second spelling of the same settings
        if !(0.0..=1.0).contains(&error_feedback) || error_feedback.is_sign_negative() {
            return Err(SettingsError::ErrorFeedback { got: error_feedback });
        }
        Ok(())
    }

    /// Entries sent of a chunk of `len` entries: `ceil(k * len / chunk)`, so never less than one.
    ///
    /// Small tensors and last, partial chunks are sent at the density of full chunks.
    pub fn k_of(&self, len: usize) -> usize {
        (self.k as usize * len).div_ceil(self.chunk as usize)
    }

    /// Upper bound of a blob's length in bytes for `layout`, to bound a download before it starts.
    ///
    /// Settings must be valid.
    pub fn max_bytes(&self, layout: &Layout) -> u64 {
        super::header::max_bytes(self, layout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_checked_field_by_field() {
        let good = CodecSettings::default();
        assert_eq!(good.validate(), Ok(()));
        let refused = |change: fn(&mut CodecSettings)| {
            let mut settings = good;
            change(&mut settings);
            settings.validate().unwrap_err()
        };
        assert_eq!(refused(|s| s.chunk = 15), SettingsError::Chunk { got: 15 });
        assert_eq!(refused(|s| s.chunk = 65_537), SettingsError::Chunk { got: 65_537 });
        assert_eq!(refused(|s| s.k = 0), SettingsError::K { chunk: 4096, got: 0 });
        assert_eq!(refused(|s| s.k = 4097), SettingsError::K { chunk: 4096, got: 4097 });
        assert_eq!(refused(|s| s.bits = 3), SettingsError::Bits { got: 3 });
        assert!(matches!(refused(|s| s.error_feedback = f32::NAN), SettingsError::ErrorFeedback { .. }));
        assert!(matches!(refused(|s| s.error_feedback = -0.0), SettingsError::ErrorFeedback { .. }));
        assert!(matches!(refused(|s| s.error_feedback = 1.5), SettingsError::ErrorFeedback { .. }));
    }

    #[test]
    fn k_scales_with_the_length_and_never_reaches_zero() {
        let settings = CodecSettings::default();
        assert_eq!(settings.k_of(4096), 64);
        assert_eq!(settings.k_of(4095), 64);
        assert_eq!(settings.k_of(2048), 32);
        assert_eq!(settings.k_of(65), 2);
        assert_eq!(settings.k_of(64), 1);
        assert_eq!(settings.k_of(1), 1);
        let dense = CodecSettings { k: 4096, ..settings };
        assert_eq!(dense.k_of(17), 17);
    }
}
