//! Pictures to PNG: lossless, and the same bytes for the same picture.

use image::{
    ExtendedColorType, ImageEncoder,
    codecs::png::{CompressionType, FilterType, PngEncoder},
};

use super::Rgb;

impl Rgb {
    /// The picture as a PNG file.
    ///
    /// # Errors
    ///
    /// The encoder's reason when the sides and the samples do not fit each other.
    pub fn to_png(&self) -> Result<Vec<u8>, image::ImageError> {
        let mut png = Vec::new();
        PngEncoder::new_with_quality(&mut png, CompressionType::Fast, FilterType::Adaptive).write_image(
            &self.rgb,
            self.width,
            self.height,
            ExtendedColorType::Rgb8,
        )?;
        Ok(png)
    }
}
