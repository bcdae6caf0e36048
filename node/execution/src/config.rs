//! Reading the blob that the manifest names as the model's `config.json`.

use talkoot_trainer::config::{ConfigError, ModelConfig};

/// Why a `config.json` is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigFileError {
    /// Not JSON, or not of this shape.
    #[error("the model's config.json cannot be read: {reason}")]
    Json {
        /// What the parser met, with line and column.
        reason: String,
    },
    /// A number that no model can have.
    #[error("the model's config.json is refused: {0}")]
    Shape(#[from] ConfigError),
}

/// Reads and checks a `config.json`.
///
/// # Errors
///
/// [`ConfigFileError`] that names the field.
pub fn parse_config(bytes: &[u8]) -> Result<ModelConfig, ConfigFileError> {
    let config: ModelConfig =
        serde_json::from_slice(bytes).map_err(|error| ConfigFileError::Json { reason: error.to_string() })?;
    config.validate()?;
    Ok(config)
}
