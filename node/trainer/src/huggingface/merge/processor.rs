//! How pictures are prepared, as `transformers` wants to be told.

use serde_json::{Value, json};

use crate::config::ModelConfig;

/// Name of the settings in a folder.
pub(super) const FILE: &str = "preprocessor_config.json";

/// Fewest and most pixels of a picture after resizing: 56 x 56, which is four tokens, and 1600 x 1600.
const PIXELS: (u32, u32) = (3_136, 2_560_000);

/// CLIP's, with the digits that others write; [`crate::patches`] has them in f32.
const MEAN: [f64; 3] = [0.48145466, 0.4578275, 0.40821073];
const DEVIATION: [f64; 3] = [0.26862954, 0.26130258, 0.27577711];

/// The settings. They are those of the Qwen2-VL processor, but for one frame in a patch and the most pixels.
pub(super) fn settings(config: &ModelConfig) -> Value {
    json!({
        "processor_class": "Qwen2_5_VLProcessor",
        "image_processor_type": "Qwen2VLImageProcessor",
        "do_convert_rgb": true,
        "do_resize": true,
        "min_pixels": PIXELS.0,
        "max_pixels": PIXELS.1,
        // bicubic
        "resample": 3,
        "do_rescale": true,
        "rescale_factor": 1.0 / 255.0,
        "do_normalize": true,
        "image_mean": MEAN,
        "image_std": DEVIATION,
        "patch_size": config.vision.patch_size,
        "temporal_patch_size": config.vision.temporal_patch_size,
        "merge_size": config.vision.spatial_merge_size,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        patches::{CLIP_DEVIATION, CLIP_MEAN},
        presets::demo_model,
    };

    #[test]
    fn others_prepare_pictures_as_we_do() {
        let settings = settings(&demo_model(32));
        assert_eq!(MEAN.map(|mean| mean as f32), CLIP_MEAN);
        assert_eq!(DEVIATION.map(|deviation| deviation as f32), CLIP_DEVIATION);
        assert_eq!(settings["image_mean"].to_string(), "[0.48145466,0.4578275,0.40821073]");
        for (key, value) in [("min_pixels", 3_136), ("max_pixels", 1_600 * 1_600), ("temporal_patch_size", 1)]
        {
            assert_eq!(settings[key], value, "{key}");
        }
    }
}
