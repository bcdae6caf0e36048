//! The embedded PTX is that of the sources, as far as this can be said without NVIDIA's compiler (`ptx/build.py --check`
//! says the rest).
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use talkoot_cuda::{kernels::FILES, ptx::Texts};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Classes of kernels: folders that have files of the table.
fn classes() -> Vec<&'static str> {
    let mut classes: Vec<&str> = FILES.iter().filter_map(|file| file.path.split('/').next()).collect();
    classes.dedup();
    classes
}

/// Sources of a class: its files, and what they include.
fn sources_of(class: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder("kernels").join(class)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut waiting: Vec<String> =
        names.filter(|name| name.ends_with(".cu")).map(|name| format!("{class}/{name}")).collect();
    let mut found = BTreeSet::new();
    while let Some(name) = waiting.pop() {
        let text = fs::read_to_string(folder("kernels").join(&name)).unwrap();
        let included = text.lines().filter_map(|line| line.strip_prefix("#include \"")?.strip_suffix('"'));
        waiting.extend(included.map(str::to_owned).filter(|name| !found.contains(name)));
        found.insert(name);
    }
    found
}

/// SHA-256 of a source, as the record has it.
fn digest_of(name: &str) -> String {
    let digest = Sha256::digest(fs::read(folder("kernels").join(name)).unwrap());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_ptx_was_made_from_these_sources() {
    for class in classes() {
        let record = fs::read_to_string(folder("ptx").join(format!("{class}.sha256"))).unwrap();
        let now: String =
            sources_of(class).iter().map(|name| format!("{}  {name}\n", digest_of(name))).collect();
        assert_eq!(record, now, "sources of {class} changed: run node/cuda/ptx/build.py");
    }
}

#[test]
fn every_file_of_the_kernels_is_in_the_table() {
    for class in classes() {
        let there: BTreeSet<String> =
            sources_of(class).into_iter().filter(|name| name.ends_with(".cu")).collect();
        let of_class = FILES.iter().map(|file| file.path.to_owned()).filter(|path| path.starts_with(class));
        assert_eq!(there, of_class.collect());
    }
}

#[test]
fn every_kernel_is_there_for_every_generation_and_for_none_before() {
    for file in FILES.iter().filter(|file| !file.path.starts_with("fast/")) {
        let texts = Texts::of_class(file.path.split('/').next().unwrap()).unwrap();
        for (capability, target) in [
            ((7, 5), "sm_75"),
            ((8, 0), "sm_80"),
            ((8, 6), "sm_80"),
            ((8, 9), "sm_89"),
            ((9, 0), "sm_90"),
            ((12, 0), "sm_90"),
        ] {
            let text = texts.get(file.path, capability).unwrap();
            assert!(text.contains(&format!(".target {target}\n")), "{} for {capability:?}", file.path);
            let entries = text.matches(".visible .entry ").count();
            assert_eq!(entries, file.kernels.len(), "kernels of {}", file.path);
            for kernel in file.kernels {
                assert!(text.contains(&format!(".visible .entry {}(", kernel.name)), "{}", kernel.name);
            }
        }
        assert!(texts.get(file.path, (7, 0)).is_none());
    }
}

/// What IEEE does not define, or defines as two roundings where one is asked for, has no place in the exact class, nor in
/// contributions, whose bytes are the processor's.
#[test]
fn the_exact_class_and_contributions_have_exact_instructions_alone() {
    for file in FILES.iter().filter(|file| !file.path.starts_with("fast/")) {
        let texts = Texts::of_class(file.path.split('/').next().unwrap()).unwrap();
        let text = texts.get(file.path, (9, 0)).unwrap();
        for forbidden in
            [".ftz", ".approx", ".full.", "mad.f32", "mad.rn.f32", "ex2.", "lg2.", "sin.", "cos."]
        {
            let found = text.lines().find(|line| line.contains(forbidden));
            assert_eq!(found, None, "{forbidden} in {}", file.path);
        }
        for line in text.lines().map(str::trim).filter(|line| line.contains(".f32") || line.contains(".f64"))
        {
            let instruction = line.split_whitespace().find(|word| word.contains(".f")).unwrap();
            let rounds = ["add.", "sub.", "mul.", "fma.", "div.", "sqrt.", "rcp."];
            if rounds.iter().any(|name| instruction.starts_with(name)) {
                assert!(instruction.contains(".rn."), "rounding of {line} in {}", file.path);
            }
        }
    }
}

#[test]
fn the_product_is_made_of_fused_multiply_adds() {
    let texts = Texts::of_class("exact").unwrap();
    let text = texts.get("exact/product.cu", (8, 0)).unwrap();
    assert!(text.matches("fma.rn.f32").count() >= 3 * 1024, "unrolled chains");
    assert_eq!(text.matches("mul.rn.f32").count() + text.matches("mul.f32").count(), 0);
}

/// Tensor cores for bf16 came with compute capability 8.0.
#[test]
fn the_fast_class_multiplies_on_tensor_cores_and_begins_with_their_generation() {
    let texts = Texts::of_class("fast").unwrap();
    for file in FILES.iter().filter(|file| file.path.starts_with("fast/")) {
        assert!(texts.get(file.path, (7, 5)).is_none(), "{}", file.path);
        for capability in [(8, 0), (8, 6), (8, 9), (9, 0), (12, 0)] {
            let text = texts.get(file.path, capability).unwrap();
            let entries = text.matches(".visible .entry ").count();
            assert_eq!(entries, file.kernels.len(), "kernels of {}", file.path);
            let products = text.matches("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32").count();
            let multiplies = !["fast/cross_entropy.cu", "fast/round.cu"].contains(&file.path);
            assert_eq!(products > 0, multiplies, "{products} in {}", file.path);
            let atomic = |word: &str| word.starts_with("atom.") || word.starts_with("red.");
            assert!(!text.split_whitespace().any(atomic), "atomics in {}", file.path);
        }
    }
}

/// What is written as a product and a sum stays one: no file of these has a fused multiply-add in its source.
#[test]
fn nothing_is_contracted() {
    let texts = Texts::of_class("exact").unwrap();
    for file in ["exact/rotary.cu", "exact/rows.cu"] {
        let text = texts.get(file, (8, 0)).unwrap();
        assert!(text.contains("add.rn.f32") && !text.contains("fma."), "a fused multiply-add in {file}");
    }
}
