use talkoot_dataset::{SynthOptions, SynthReport, build_demo_tokenizer};
use talkoot_trainer::{generate::GENERATION_CONFIG_FILE, presets::demo_model};

use super::*;

/// A little drawn data, and a very small model with fresh weights that can be asked about it.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) drawn: SynthReport,
    pub(crate) tokenizer: Vec<u8>,
    pub(crate) config: ModelConfig,
    pub(crate) state: State,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = SynthOptions { train_pictures: 4, heldout_pictures: 4, ..SynthOptions::default() };
        let drawn = options.write(folder.path()).unwrap();
        let tokenizer = build_demo_tokenizer(&drawn.texts, 300).unwrap();
        let read = Tokenizer::from_bytes(&tokenizer).unwrap();
        let mut config = demo_model(read.vocab_size());
        config.image_token_id = read.special_ids().image_pad;
        config.video_token_id = Some(read.special_ids().video_pad);
        config.vision.depth = 1;
        config.text.num_hidden_layers = 2;
        let state = State::initial(&config, 5);
        Self { folder, drawn, tokenizer, config, state }
    }

    pub(crate) fn assistant(&self) -> Assistant {
        Assistant::new(&self.config, &self.state, Tokenizer::from_bytes(&self.tokenizer).unwrap()).unwrap()
    }

    pub(crate) fn picture(&self, number: usize) -> PathBuf {
        self.drawn.folder.join(format!("images/h{number:05}.png"))
    }

    /// Writes the model into a folder.
    pub(crate) fn save(&self, extra: &[(&str, &[u8])]) -> PathBuf {
        let folder = self.folder.path().join("model");
        huggingface::write_folder(&folder, &self.config, &self.state, extra).unwrap();
        folder
    }
}

#[test]
fn a_folder_is_opened_with_all_that_it_says() {
    let world = World::new();
    let folder = world.save(&[
        (TOKENIZER_FILE, &world.tokenizer),
        (
            GENERATION_CONFIG_FILE,
            br#"{"do_sample": true, "temperature": 0.5, "eos_token_id": 7, "max_new_tokens": 3}"#,
        ),
        (PREPROCESSOR_CONFIG_FILE, br#"{"min_pixels": 784, "max_pixels": 1568}"#),
    ]);
    let assistant = Assistant::open(&folder).unwrap();
    assert_eq!((assistant.sampling().temperature, assistant.max_new_tokens()), (0.5, Some(3)));
    let special = assistant.tokenizer().special_ids();
    for end in [7, special.im_end, special.endoftext] {
        assert!(assistant.ends().contains(&end), "{end}");
    }
    assert_eq!(assistant.state(), world.state.digest());
    assert!(assistant.picture(&world.picture(0)).unwrap().llm_tokens() <= 2);
}

#[test]
fn a_missing_tokenizer_is_explained() {
    let world = World::new();
    let error = Assistant::open(&world.save(&[])).unwrap_err();
    assert!(matches!(error, OpenError::NoTokenizer { .. }), "{error}");
    assert!(error.to_string().contains("put the one that the model was trained with there"), "{error}");
    let error = Assistant::open(Path::new("nowhere")).unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
}

#[test]
fn the_tokenizer_of_another_model_is_noticed() {
    let mut world = World::new();
    world.config.image_token_id += 1;
    let error = Assistant::new(&world.config, &world.state, Tokenizer::from_bytes(&world.tokenizer).unwrap());
    assert!(matches!(error, Err(OpenError::ForeignTokenizer { .. })));
}
