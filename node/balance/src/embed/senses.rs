//! A model's senses: what it makes of pictures and words before it thinks about them.

use std::{fs::File, io::Read, path::Path};

use talkoot_dataset::{
    PictureRef, PreprocessOptions, RejectKind, Roots, Sample, Tokenizer,
    chat::{IMAGE_PLACEHOLDER, Role},
    tokenizer::MAX_TOKENIZER_BYTES,
};
use talkoot_protocol::digest::Digest;
use talkoot_trainer::{
    batch::{Image, NOT_LEARNED, Pack},
    config::ModelConfig,
    cpu::Cpu,
    huggingface::read_senses,
    model::{self, Batch, Model, ModelError},
};

use super::EmbedError;

/// Most pictures of a sample that are looked at; of more, as of a video's frames, an even share.
const MAX_PICTURES: usize = 16;
/// Most tokens of a text that are read.
const MAX_TOKENS: usize = 2_048;
/// Rows of the tower that go through it together, at most, unless one sample has more.
const GROUP_ROWS: usize = 8_192;

/// A model without its decoder, and its tokenizer.
pub(super) struct Senses<'b> {
    model: Model<'b, Cpu>,
    tokenizer: Tokenizer,
    preprocess: PreprocessOptions,
    digest: Digest,
}

/// Why a sample has no row.
pub(super) type Fault = (RejectKind, String);

impl<'b> Senses<'b> {
    /// Reads what is needed of the model in `folder`.
    pub(super) fn open(cpu: &'b Cpu, folder: &Path, max_pixels: u32) -> Result<Self, EmbedError> {
        let path = folder.join("tokenizer.json");
        let mut bytes = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(MAX_TOKENIZER_BYTES as u64 + 1).read_to_end(&mut bytes))
            .map_err(|source| EmbedError::NoTokenizer { path, source })?;
        let tokenizer = Tokenizer::from_bytes(&bytes)?;
        let (config, state) = read_senses(folder)?;
        let (id, ours) = (tokenizer.special_ids().image_pad, config.image_token_id);
        if id != ours {
            let reason = format!("pictures are token {ours} of the model and {id} of the tokenizer");
            return Err(EmbedError::ForeignTokenizer { reason });
        }
        if tokenizer.vocab_size() as usize > config.text.vocab_size {
            let (ours, theirs) = (config.text.vocab_size, tokenizer.vocab_size());
            let reason = format!("it has {theirs} tokens, the model has {ours}");
            return Err(EmbedError::ForeignTokenizer { reason });
        }
        let defaults = PreprocessOptions::default();
        let min_pixels = defaults.min_pixels.min(max_pixels);
        let preprocess = PreprocessOptions { min_pixels, max_pixels, ..defaults };
        let digest = state.digest();
        Ok(Self { model: Model::new(cpu, &config, &state)?, tokenizer, preprocess, digest })
    }

    /// Which weights these are.
    pub(super) const fn digest(&self) -> Digest {
        self.digest
    }

    /// Numbers of a row.
    pub(super) fn width(&self) -> usize {
        self.config().text.hidden_size
    }

    fn config(&self) -> &ModelConfig {
        self.model.config()
    }

    /// What there is to see of a sample: its pictures, or its texts where it has none.
    pub(super) fn sample(&self, sample: &Sample, roots: &Roots) -> Result<model::Sample, Fault> {
        if sample.pictures.is_empty() {
            let texts = sample.messages.iter().filter(|message| message.role != Role::System);
            let texts: Vec<&str> = texts.map(|message| message.text.as_str()).collect();
            let text = texts.join("\n").replace(IMAGE_PLACEHOLDER, "");
            return self.words(&text).map_err(|reason| (RejectKind::Conversation, reason));
        }
        let (all, shown) = (sample.pictures.len(), sample.pictures.len().min(MAX_PICTURES));
        let pictures = (0..shown).map(|number| &sample.pictures[number * all / shown]);
        let images = pictures.map(|picture| self.picture(picture, roots)).collect::<Result<Vec<_>, _>>()?;
        let rows: usize = images.iter().map(|image| image.tokens(self.config())).sum();
        self.checked(vec![self.config().image_token_id; rows], images)
            .map_err(|reason| (RejectKind::BadPicture, reason))
    }

    fn picture(&self, picture: &PictureRef, roots: &Roots) -> Result<Image, Fault> {
        let bytes = roots.read(picture, self.preprocess.limits.file_bytes)?;
        let name = picture.name();
        let fitted = self.preprocess.load_bytes(&bytes, Path::new(&name));
        let rgb = fitted.map_err(|error| (RejectKind::BadPicture, error.to_string()))?;
        Ok(Image { width: rgb.width, height: rgb.height, rgb: rgb.rgb })
    }

    /// The words of a text.
    pub(super) fn words(&self, text: &str) -> Result<model::Sample, String> {
        let mut tokens = self.tokenizer.encode(text).map_err(|error| error.to_string())?;
        // Tokens that are spelt out in a text stand for nothing.
        let ids = self.tokenizer.special_ids();
        tokens.retain(|id| ![ids.image_pad, ids.video_pad, ids.vision_start, ids.vision_end].contains(id));
        tokens.truncate(MAX_TOKENS);
        if tokens.is_empty() {
            return Err("it has no word".to_owned());
        }
        self.checked(tokens, Vec::new())
    }

    fn checked(&self, tokens: Vec<u32>, images: Vec<Image>) -> Result<model::Sample, String> {
        let labels = vec![NOT_LEARNED; tokens.len()];
        let sample_lengths = vec![u32::try_from(tokens.len()).map_err(|error| error.to_string())?];
        let pack = Pack { tokens, labels, sample_lengths, images };
        pack.check(self.config()).map_err(|error| error.to_string())?;
        Ok(model::Sample::from_pack(&pack, self.config()).pop().unwrap_or_default())
    }

    /// The row of each of `samples`, one behind the other.
    pub(super) fn rows(&self, samples: &[model::Sample]) -> Result<Vec<f32>, ModelError> {
        let size = |sample: &model::Sample| {
            sample.tokens.len() + sample.pictures.iter().map(|picture| picture.len()).sum::<usize>()
        };
        let mut rows = Vec::with_capacity(samples.len() * self.width());
        let mut left = samples;
        while !left.is_empty() {
            let mut sum = 0;
            let fit = left.iter().take_while(|sample| {
                sum += size(sample);
                sum <= GROUP_ROWS
            });
            let (group, rest) = left.split_at(fit.count().max(1));
            rows.extend(self.model.pooled(&Batch::new(group, self.config()))?);
            left = rest;
        }
        Ok(rows)
    }
}
