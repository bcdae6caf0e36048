//! Refusing shapes that cannot be, with the name of the field.

use super::ModelConfig;

/// A model description that cannot be built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A number outside what can be.
    #[error("{field} is {got}, but must be between {min} and {max}")]
    OutOfRange {
        /// The field, as in `config.json`.
        field: &'static str,
        /// What stood there.
        got: f64,
        /// Smallest allowed value.
        min: f64,
        /// Largest allowed value.
        max: f64,
    },
    /// A number that must be a multiple of another.
    #[error("{field} is {got}, but must be a multiple of {of}")]
    NotAMultiple {
        /// The field, as in `config.json`.
        field: &'static str,
        /// What stood there.
        got: usize,
        /// What it must be a multiple of.
        of: usize,
    },
    /// Two fields that must agree and don't.
    #[error("{field} is {got}, but {other} is {expected}: they must be equal")]
    Disagree {
        /// The field, as in `config.json`.
        field: &'static str,
        /// What stood there.
        got: usize,
        /// The other field.
        other: &'static str,
        /// What stood in the other.
        expected: usize,
    },
    /// A setting of another architecture.
    #[error("{field} is {got}: only {expected} is built here")]
    Unsupported {
        /// The field, as in `config.json`.
        field: &'static str,
        /// What stood there.
        got: String,
        /// The only value that is meant.
        expected: &'static str,
    },
    /// The whole is larger than any machine that this is written for.
    #[error("the model would have {parameters} parameters, more than the limit of {limit}")]
    TooLarge {
        /// Number of parameters, saturated.
        parameters: u128,
        /// The limit.
        limit: u128,
    },
}

/// 256 Gi parameters: a terabyte in f32.
const MAX_PARAMETERS: u128 = 1 << 38;

fn within(field: &'static str, got: usize, min: usize, max: usize) -> Result<(), ConfigError> {
    if (min..=max).contains(&got) {
        return Ok(());
    }
    Err(ConfigError::OutOfRange { field, got: got as f64, min: min as f64, max: max as f64 })
}

fn number(field: &'static str, got: f64, min: f64, max: f64) -> Result<(), ConfigError> {
    // written so that NaN is refused too
    if got >= min && got <= max {
        return Ok(());
    }
    Err(ConfigError::OutOfRange { field, got, min, max })
}

fn multiple(field: &'static str, got: usize, of: usize) -> Result<(), ConfigError> {
    if got.is_multiple_of(of) { Ok(()) } else { Err(ConfigError::NotAMultiple { field, got, of }) }
}

fn only(field: &'static str, got: impl ToString, expected: &'static str) -> Result<(), ConfigError> {
    let got = got.to_string();
    if got == expected { Ok(()) } else { Err(ConfigError::Unsupported { field, got, expected }) }
}

impl ModelConfig {
    /// Checks every number before anything is built or allocated.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] names the first field that cannot be.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_vision()?;
        self.validate_text()?;
        let vocabulary = self.text.vocab_size;
        within("image_token_id", self.image_token_id as usize, 0, vocabulary - 1)?;
        for (field, id) in [
            ("video_token_id", self.video_token_id),
            ("vision_start_token_id", self.vision_start_token_id),
            ("vision_end_token_id", self.vision_end_token_id),
        ] {
            within(field, id.unwrap_or(0) as usize, 0, vocabulary - 1)?;
        }
        let (got, expected) = (self.vision.text_hidden_size, self.text.hidden_size);
        if got != expected {
            let (field, other) = ("vision_config.text_hidden_size", "text_config.hidden_size");
            return Err(ConfigError::Disagree { field, got, other, expected });
        }
        let count = |shape: &Vec<usize>| shape.iter().map(|&n| n as u128).product::<u128>();
        let parameters = self.parameter_shapes().values().map(count).sum();
        if parameters > MAX_PARAMETERS {
            return Err(ConfigError::TooLarge { parameters, limit: MAX_PARAMETERS });
        }
        Ok(())
    }

    fn validate_vision(&self) -> Result<(), ConfigError> {
        let v = &self.vision;
        within("vision_config.depth", v.depth, 1, 1024)?;
        within("vision_config.hidden_size", v.hidden_size, 4, 1 << 16)?;
        within("vision_config.num_heads", v.num_heads, 1, 1024)?;
        within("vision_config.intermediate_size", v.intermediate_size, 1, 1 << 18)?;
        within("vision_config.patch_size", v.patch_size, 1, 256)?;
        within("vision_config.spatial_merge_size", v.spatial_merge_size, 1, 16)?;
        within("vision_config.text_hidden_size", v.text_hidden_size, 2, 1 << 16)?;
        multiple("vision_config.hidden_size", v.hidden_size, v.num_heads)?;
        // rows and columns each take a quarter of the head, in pairs
        if !v.head_dim().is_multiple_of(4) {
            let (field, got) = ("vision_config.hidden_size", v.hidden_size);
            return Err(ConfigError::NotAMultiple { field, got, of: 4 * v.num_heads });
        }
        if let Some(expected) = v.embed_dim
            && expected != v.hidden_size
        {
            let (field, other) = ("vision_config.hidden_size", "vision_config.embed_dim");
            return Err(ConfigError::Disagree { field, got: v.hidden_size, other, expected });
        }
        only("vision_config.temporal_patch_size", v.temporal_patch_size, "1")?;
        only("vision_config.in_channels", v.in_channels, "3")?;
        only("vision_config.hidden_act", &v.hidden_act, "gelu")?;
        number("vision_config.layer_norm_eps", v.layer_norm_eps, 1e-12, 1.0)?;
        number("vision_config.initializer_range", v.initializer_range, 0.0, 10.0)
    }

    fn validate_text(&self) -> Result<(), ConfigError> {
        let t = &self.text;
        within("text_config.hidden_size", t.hidden_size, 2, 1 << 16)?;
        within("text_config.intermediate_size", t.intermediate_size, 1, 1 << 18)?;
        within("text_config.num_hidden_layers", t.num_hidden_layers, 1, 1024)?;
        within("text_config.num_attention_heads", t.num_attention_heads, 1, 1024)?;
        within("text_config.num_key_value_heads", t.num_key_value_heads, 1, 1024)?;
        within("text_config.head_dim", t.head_dim, 2, 4096)?;
        within("text_config.vocab_size", t.vocab_size, 2, 1 << 24)?;
        within("text_config.max_position_embeddings", t.max_position_embeddings, 1, 1 << 20)?;
        multiple("text_config.head_dim", t.head_dim, 2)?;
        multiple("text_config.num_attention_heads", t.num_attention_heads, t.num_key_value_heads)?;
        number("text_config.rms_norm_eps", t.rms_norm_eps, 1e-12, 1.0)?;
        number("text_config.rope_theta", t.rope_theta, 1.0, 1e12)?;
        number("text_config.initializer_range", t.initializer_range, 0.0, 10.0)?;
        only("text_config.hidden_act", &t.hidden_act, "silu")?;
        only("text_config.attention_bias", t.attention_bias, "false")?;
        only("text_config.use_sliding_window", t.use_sliding_window, "false")?;
        match &t.rope_scaling {
            None => Ok(()),
            Some(scaling) => only("text_config.rope_scaling", scaling, "null"),
        }
    }
}
