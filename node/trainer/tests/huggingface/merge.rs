//! The merge of two small folders, against tensors that are put in place by hand.

use std::{fs, path::Path};

use serde_json::{Value, json};
use talkoot_trainer::{
    huggingface::{
        CONFIG_FILE, FloatType, FolderError, Merge, ShardSize, WEIGHTS_FILE, Written, read_folder,
    },
    state::{State, Tensor32},
};
use tempfile::TempDir;

use crate::support::*;

const WIDTH: usize = 8;
const HIDDEN: usize = 12;
const LAYERS: usize = 2;

/// A tensor whose numbers tell where they come from: the name's place in the file, then the index.
fn tensor(tag: usize, shape: &[usize]) -> Tensor32 {
    let count = shape.iter().product::<usize>();
    Tensor32 { shape: shape.to_vec(), values: (0..count).map(|i| (tag * 1000 + i) as f32).collect() }
}

/// The tower as `MLCDVisionModel` is saved.
fn rice() -> Vec<(String, Tensor32)> {
    let mut shapes: Vec<(String, Vec<usize>)> = vec![
        ("embeddings.class_embedding".into(), vec![WIDTH]),
        ("embeddings.patch_embedding.weight".into(), vec![WIDTH, 3, 2, 2]),
        ("class_pos_emb".into(), vec![1, 2]),
        ("vision_rotary_embedding.inv_freq".into(), vec![2]),
    ];
    let mut pair = |name: String, shape: &[usize]| {
        shapes.push((format!("{name}.weight"), shape.to_vec()));
        shapes.push((format!("{name}.bias"), shape[..1].to_vec()));
    };
    pair("pre_layrnorm".into(), &[WIDTH]);
    pair("post_layernorm".into(), &[WIDTH]);
    for i in 0..LAYERS {
        let layer = format!("encoder.layers.{i}");
        pair(format!("{layer}.layer_norm1"), &[WIDTH]);
        pair(format!("{layer}.layer_norm2"), &[WIDTH]);
        for part in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            pair(format!("{layer}.self_attn.{part}"), &[WIDTH, WIDTH]);
        }
        pair(format!("{layer}.mlp.fc1"), &[16, WIDTH]);
        pair(format!("{layer}.mlp.fc2"), &[WIDTH, 16]);
    }
    let named = shapes.into_iter().enumerate();
    named.map(|(tag, (name, shape))| (format!("vision_model.{name}"), tensor(tag, &shape))).collect()
}

fn rice_config() -> Value {
    json!({
        "architectures": ["MLCDVisionModel"], "model_type": "mlcd_vision_model", "hidden_act": "gelu",
        "hidden_size": WIDTH, "image_size": 8, "initializer_range": 0.5, "intermediate_size": 16,
        "layer_norm_eps": 3e-5, "num_attention_heads": 2, "num_channels": 3, "num_hidden_layers": LAYERS,
        "num_key_value_groups": 1, "patch_size": 2, "torch_dtype": "float32",
    })
}

/// The language model of [`small`], as Qwen3 is saved.
fn qwen() -> State {
    let mut state = State::initial(&small(), 9);
    state.tensors.retain(|name, _| !name.starts_with("visual."));
    state
}

fn qwen_config(tied: bool) -> Value {
    let mut config = serde_json::to_value(&small().text).unwrap();
    config["model_type"] = "qwen3".into();
    config["tie_word_embeddings"] = tied.into();
    config["eos_token_id"] = 7.into();
    config
}

fn tokenizer() -> Value {
    let added = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"];
    let added: Vec<_> =
        (28..).zip(added).map(|(id, content)| json!({"id": id, "content": content})).collect();
    json!({"version": "1.0", "added_tokens": added, "model": {"vocab": {}}})
}

fn write(folder: &Path, config: &Value, tensors: &Tensors) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join(CONFIG_FILE), config.to_string()).unwrap();
    write_file(&folder.join(WEIGHTS_FILE), tensors);
}

/// Both folders, `vision` and `language`.
struct Parts(TempDir);

impl Parts {
    fn new() -> Self {
        let parts = Self(tempfile::tempdir().unwrap());
        let rice = rice().into_iter().map(|(name, tensor)| (name, Raw::of(&tensor, FloatType::F32)));
        write(&parts.path("vision"), &rice_config(), &rice.collect());
        write(&parts.path("language"), &qwen_config(false), &raw(&qwen(), FloatType::F32));
        let files =
            [("tokenizer.json", tokenizer().to_string()), ("generation_config.json", "{}".to_owned())];
        for (name, text) in files {
            fs::write(parts.path("language").join(name), text).unwrap();
        }
        parts
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn merge(&self, change: impl Fn(&mut Merge)) -> Result<Written, FolderError> {
        let mut merge = Merge {
            vision: self.path("vision"),
            language: self.path("language"),
            adapter: None,
            seed: 5,
            dtype: FloatType::F32,
            shard_size: ShardSize::default(),
        };
        change(&mut merge);
        merge.run(&self.path("out"), &mut |_, _| {})
    }
}

/// The tower where it belongs, tensor by tensor.
fn expected_tower() -> Vec<(String, Tensor32)> {
    let source = rice();
    let get =
        |name: &str| source.iter().find(|(n, _)| n == &format!("vision_model.{name}")).unwrap().1.clone();
    let mut expected = vec![
        ("visual.class_embedding".to_owned(), get("embeddings.class_embedding")),
        ("visual.class_pos_emb".to_owned(), get("class_pos_emb")),
        ("visual.patch_embed.proj.weight".to_owned(), get("embeddings.patch_embedding.weight")),
    ];
    for kind in ["weight", "bias"] {
        expected.push((format!("visual.pre_layernorm.{kind}"), get(&format!("pre_layrnorm.{kind}"))));
        for i in 0..LAYERS {
            let of = |part: &str| get(&format!("encoder.layers.{i}.{part}.{kind}"));
            let mut put =
                |name: &str, tensor| expected.push((format!("visual.blocks.{i}.{name}.{kind}"), tensor));
            put("norm1", of("layer_norm1"));
            put("norm2", of("layer_norm2"));
            put("attn.proj", of("self_attn.out_proj"));
            put("mlp.fc1", of("mlp.fc1"));
            put("mlp.fc2", of("mlp.fc2"));
            let mut joined = of("self_attn.q_proj");
            joined.values.extend(of("self_attn.k_proj").values);
            joined.values.extend(of("self_attn.v_proj").values);
            joined.shape[0] = 3 * WIDTH;
            put("attn.qkv", joined);
        }
    }
    expected
}

#[test]
fn two_folders_become_one_model_tensor_by_tensor() {
    let parts = Parts::new();
    let written = parts.merge(|_| {}).unwrap();
    let (config, state) = read_folder(&parts.path("out")).unwrap();
    let mut expected = qwen();
    expected.tensors.extend(expected_tower());
    // a fresh merger has the numbers of a fresh model
    let fresh = State::initial(&config, 5);
    let merger = fresh.tensors.iter().filter(|(name, _)| name.starts_with("visual.merger."));
    expected.tensors.extend(merger.map(|(name, tensor)| (name.clone(), tensor.clone())));
    assert_eq!(state.tensors.keys().collect::<Vec<_>>(), expected.tensors.keys().collect::<Vec<_>>());
    for (name, tensor) in &expected.tensors {
        assert_eq!(&state.tensors[name], tensor, "{name}");
    }
    assert_eq!(
        (written.tensors, written.parameters as usize),
        (state.tensors.len(), config.parameter_count())
    );
}

#[test]
fn a_fresh_merger_is_normal_with_deviation_a_fiftieth() {
    let parts = Parts::new();
    parts.merge(|_| {}).unwrap();
    let (_, state) = read_folder(&parts.path("out")).unwrap();
    let all = |name: &str, value: f32| state.tensors[name].values.iter().all(|&x| x == value);
    assert!(all("visual.merger.ln_q.weight", 1.0) && all("visual.merger.ln_q.bias", 0.0));
    assert!(all("visual.merger.mlp.0.bias", 0.0) && all("visual.merger.mlp.2.bias", 0.0));
    let weights = &state.tensors["visual.merger.mlp.0.weight"];
    assert_eq!(weights.shape, [4 * WIDTH, 4 * WIDTH]);
    let square = weights.values.iter().map(|x| x * x).sum::<f32>() / weights.values.len() as f32;
    assert!((square.sqrt() - 0.02).abs() < 0.002, "{}", square.sqrt());
    assert_eq!(state.tensors["visual.merger.mlp.2.weight"].shape, [HIDDEN, 4 * WIDTH]);
}

#[test]
fn the_description_says_what_the_parts_said() {
    let parts = Parts::new();
    let written = parts.merge(|merge| merge.dtype = FloatType::Bf16).unwrap();
    let others = ["tokenizer.json", "generation_config.json", "preprocessor_config.json", CONFIG_FILE];
    assert_eq!(written.others, others);
    assert_eq!(fs::read(parts.path("out/tokenizer.json")).unwrap(), tokenizer().to_string().as_bytes());
    let (config, _) = read_folder(&parts.path("out")).unwrap();
    assert_eq!(config.image_token_id, 30);
    assert_eq!(
        (config.video_token_id, config.vision_start_token_id, config.vision_end_token_id),
        (Some(31), Some(28), Some(29))
    );
    let v = &config.vision;
    assert_eq!((v.depth, v.hidden_size, v.num_heads, v.patch_size), (LAYERS, WIDTH, 2, 2));
    assert_eq!((v.spatial_merge_size, v.temporal_patch_size, v.text_hidden_size), (2, 1, HIDDEN));
    assert_eq!((v.layer_norm_eps, v.initializer_range), (3e-5, 0.02));
    let json: Value =
        serde_json::from_slice(&fs::read(parts.path("out").join(CONFIG_FILE)).unwrap()).unwrap();
    assert_eq!((&json["vocab_size"], &json["tie_word_embeddings"]), (&json!(32), &json!(false)));
    assert_eq!(json["text_config"]["tie_word_embeddings"], false);
    assert_eq!(
        (&json["torch_dtype"], &json["model_type"]),
        (&json!("bfloat16"), &json!("llavaonevision1_5"))
    );
    let pictures: Value =
        serde_json::from_slice(&fs::read(parts.path("out/preprocessor_config.json")).unwrap()).unwrap();
    assert_eq!((&pictures["patch_size"], &pictures["merge_size"]), (&json!(2), &json!(2)));
    assert_eq!((&pictures["max_pixels"], &pictures["temporal_patch_size"]), (&json!(2_560_000), &json!(1)));
}

#[test]
fn a_tied_head_becomes_one_of_its_own() {
    let parts = Parts::new();
    let mut language = raw(&qwen(), FloatType::F16);
    let head = language.remove("lm_head.weight").unwrap();
    write(&parts.path("language"), &qwen_config(true), &language);
    parts.merge(|_| {}).unwrap();
    let (config, state) = read_folder(&parts.path("out")).unwrap();
    assert!(!config.text.tie_word_embeddings);
    assert_eq!(state.tensors["lm_head.weight"], state.tensors["model.embed_tokens.weight"]);
    // one that is declared tied, is there, and differs, is a contradiction
    language.insert("lm_head.weight".to_owned(), head);
    write(&parts.path("language"), &qwen_config(true), &language);
    fs::remove_dir_all(parts.path("out")).unwrap();
    assert!(matches!(parts.merge(|_| {}), Err(FolderError::TiedButDifferent)));
}

#[test]
fn an_adapter_is_taken_under_each_of_its_names() {
    let parts = Parts::new();
    let joined = 4 * WIDTH;
    let names = [
        ("ln_q.weight", vec![WIDTH]),
        ("ln_q.bias", vec![WIDTH]),
        ("mlp.0.weight", vec![joined, joined]),
        ("mlp.0.bias", vec![joined]),
        ("mlp.2.weight", vec![HIDDEN, joined]),
        ("mlp.2.bias", vec![HIDDEN]),
    ];
    let adapter = |prefix: &str| -> Tensors {
        let tensors = names.iter().enumerate();
        tensors
            .map(|(tag, (name, shape))| {
                (format!("{prefix}{name}"), Raw::of(&tensor(tag, shape), FloatType::F32))
            })
            .collect()
    };
    let path = parts.path("adapter.safetensors");
    for prefix in ["model.mm_projector.", "mm_projector.", "visual.merger.", "model.visual.merger."] {
        write_file(&path, &adapter(prefix));
        parts.merge(|merge| merge.adapter = Some(path.clone())).unwrap();
        let (_, state) = read_folder(&parts.path("out")).unwrap();
        for (tag, (name, shape)) in names.iter().enumerate() {
            assert_eq!(state.tensors[&format!("visual.merger.{name}")], tensor(tag, shape), "{prefix}{name}");
        }
        fs::remove_dir_all(parts.path("out")).unwrap();
    }
    let refused = |change: &dyn Fn(&mut Tensors)| {
        let mut tensors = adapter("model.mm_projector.");
        change(&mut tensors);
        write_file(&path, &tensors);
        match parts.merge(|merge| merge.adapter = Some(path.clone())) {
            Err(FolderError::Weights { path: named, source }) if named == path => source.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let missing = refused(&|tensors| drop(tensors.remove("model.mm_projector.mlp.2.bias")));
    assert!(missing.starts_with("tensor visual.merger.mlp.2.bias is missing"), "{missing}");
    let surplus = refused(&|tensors| {
        let bias = tensors["model.mm_projector.mlp.2.bias"].clone();
        tensors.insert("model.image_newline".to_owned(), bias);
    });
    assert!(surplus.starts_with("tensor model.image_newline is not part"), "{surplus}");
}

#[test]
fn a_wrong_part_is_named_as_it_stands_there_and_nothing_is_written() {
    let parts = Parts::new();
    let tower: Tensors =
        rice().iter().map(|(name, tensor)| (name.clone(), Raw::of(tensor, FloatType::F32))).collect();
    const KEY: &str = "vision_model.encoder.layers.1.self_attn.k_proj.weight";
    let refused = |change: &dyn Fn(&mut Tensors)| {
        let mut tower = tower.clone();
        change(&mut tower);
        write(&parts.path("vision"), &rice_config(), &tower);
        let error = parts.merge(|_| {}).unwrap_err();
        assert!(!parts.path("out").exists() || names(&parts.path("out")).is_empty());
        std::error::Error::source(&error).unwrap().to_string()
    };
    let missing = refused(&|tower| drop(tower.remove(KEY)));
    assert!(missing.starts_with(&format!("tensor {KEY} is missing")), "{missing}");
    let misshapen = refused(&|tower| tower.get_mut(KEY).unwrap().shape = vec![4, 16]);
    assert!(misshapen.starts_with(&format!("tensor {KEY} has shape [4, 16]")), "{misshapen}");
    assert!(misshapen.contains("asks for [8, 8]"), "{misshapen}");
    let surplus = refused(&|tower| drop(tower.insert("vision_model.head.weight".into(), tower[KEY].clone())));
    assert!(surplus.starts_with("tensor vision_model.head.weight is not part"), "{surplus}");
    // found only while the tower is written, after shards are finished
    let nan =
        refused(&|tower| tower.get_mut(KEY).unwrap().bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes()));
    assert_eq!(nan, format!("tensor {KEY} holds NaN at index 0: the weights are damaged"));
}

#[test]
fn a_vocabulary_without_room_for_pictures_is_refused() {
    let parts = Parts::new();
    fs::remove_file(parts.path("language/tokenizer.json")).unwrap();
    let error = parts.merge(|_| {}).unwrap_err().to_string();
    assert!(error.starts_with("image_token_id is 151655, but must be between 0 and 31"), "{error}");
}
