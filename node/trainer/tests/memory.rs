//! How much memory a conversion and a merge take, measured on the process: a small part of the weights.
//!
//! A process of its own, because the kernel keeps the highest mark of a process as a whole.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "in a test a panic is the report")]

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
};

use serde_json::{Value, json};
use talkoot_trainer::{
    config::ModelConfig,
    huggingface::{CONFIG_FILE, Conversion, FloatType, Merge, ShardSize, Summary, WEIGHTS_FILE},
    presets::demo_model,
};

/// Most memory that this process ever had, in bytes, where the kernel tells.
fn peak() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

/// A model of 70 million parameters, most of them in embedding and head.
fn config() -> ModelConfig {
    let mut config = demo_model(128 << 10);
    (config.text.hidden_size, config.vision.text_hidden_size) = (256, 256);
    config
}

/// A folder whose weights are zeros that take no room on the disk; returns their bytes.
fn write_sparse(
    folder: &Path,
    config: &Value,
    shapes: impl IntoIterator<Item = (String, Vec<usize>)>,
) -> u64 {
    let (mut described, mut end) = (serde_json::Map::new(), 0);
    for (name, shape) in shapes {
        let bytes = 4 * shape.iter().product::<usize>();
        described.insert(name, json!({"dtype": "F32", "shape": shape, "data_offsets": [end, end + bytes]}));
        end += bytes;
    }
    let described = serde_json::to_vec(&described).unwrap();
    fs::create_dir(folder).unwrap();
    fs::write(folder.join(CONFIG_FILE), config.to_string()).unwrap();
    let mut file = File::create(folder.join(WEIGHTS_FILE)).unwrap();
    file.write_all(&(described.len() as u64).to_le_bytes()).unwrap();
    file.write_all(&described).unwrap();
    file.set_len(8 + described.len() as u64 + end as u64).unwrap();
    end as u64
}

/// Names and shapes of the model's tower in the layout of `MLCDVisionModel`.
fn tower(config: &ModelConfig) -> Vec<(String, Vec<usize>)> {
    let v = &config.vision;
    let (width, hidden) = (v.hidden_size, v.intermediate_size);
    let mut shapes = vec![
        ("vision_model.embeddings.class_embedding".to_owned(), vec![width]),
        (
            "vision_model.embeddings.patch_embedding.weight".to_owned(),
            vec![width, 3, v.patch_size, v.patch_size],
        ),
        ("vision_model.class_pos_emb".to_owned(), vec![1, v.head_dim() / 2]),
    ];
    let mut pair = |name: String, shape: &[usize]| {
        shapes.push((format!("vision_model.{name}.weight"), shape.to_vec()));
        shapes.push((format!("vision_model.{name}.bias"), shape[..1].to_vec()));
    };
    pair("pre_layrnorm".to_owned(), &[width]);
    for i in 0..v.depth {
        for norm in ["layer_norm1", "layer_norm2"] {
            pair(format!("encoder.layers.{i}.{norm}"), &[width]);
        }
        for part in ["q", "k", "v", "out"] {
            pair(format!("encoder.layers.{i}.self_attn.{part}_proj"), &[width, width]);
        }
        pair(format!("encoder.layers.{i}.mlp.fc1"), &[hidden, width]);
        pair(format!("encoder.layers.{i}.mlp.fc2"), &[width, hidden]);
    }
    shapes
}

#[test]
fn conversion_and_merge_hold_a_small_part_of_the_weights() {
    let Some(before) = peak() else {
        println!("SKIPPED: no /proc/self/status here, memory was not measured");
        return;
    };
    let parent = tempfile::tempdir().unwrap();
    let path = |name: &str| parent.path().join(name);
    let config = config();
    let bytes = write_sparse(&path("whole"), &json!(config), config.parameter_shapes());
    assert!(bytes > 256 << 20, "{bytes}");
    assert_eq!(Summary::read(&path("whole")).unwrap().total.bytes, bytes);
    let conversion = Conversion { dtype: Some(FloatType::Bf16), shard_size: ShardSize(64 << 20) };
    let converted = conversion.run(&path("whole"), &path("converted"), &mut |_, _| {}).unwrap();
    assert_eq!(converted.parameters, bytes / 4);

    let vision = json!({"hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": config.vision.depth,
        "num_attention_heads": 4, "patch_size": 14});
    write_sparse(&path("vision"), &vision, tower(&config));
    let language = config.parameter_shapes().into_iter().filter(|(name, _)| !name.starts_with("visual."));
    write_sparse(&path("language"), &json!(config.text), language);
    let added = json!([{"id": 1, "content": "<|image_pad|>"}, {"id": 2, "content": "<|video_pad|>"},
        {"id": 3, "content": "<|vision_start|>"}, {"id": 4, "content": "<|vision_end|>"}]);
    fs::write(path("language").join("tokenizer.json"), json!({"added_tokens": added}).to_string()).unwrap();
    let merge = Merge {
        vision: path("vision"),
        language: path("language"),
        adapter: None,
        seed: 0,
        dtype: FloatType::Bf16,
        shard_size: ShardSize::default(),
    };
    let merged = merge.run(&path("merged"), &mut |_, _| {}).unwrap();
    assert_eq!(merged.parameters, bytes / 4);

    let grown = peak().unwrap() - before;
    println!("{} MiB of memory for {} MiB of weights", grown >> 20, bytes >> 20);
    assert!(grown < 24 << 20, "{} MiB of memory for {} MiB of weights", grown >> 20, bytes >> 20);
}
