//! The kernels as NVIDIA's driver takes them, embedded in the program.
//!
//! `ptx/build.py` makes them from `kernels/` with NVRTC, for several generations of GPUs. The driver of a newer GPU takes
//! what was made for an older one.

use std::collections::BTreeMap;

use serde::Deserialize;

/// JSON in a zlib stream, for each class: see [`Archive`].
const PACKED: &[(&str, &[u8])] = &[
    ("codec", include_bytes!("../ptx/codec.json.z")),
    ("exact", include_bytes!("../ptx/exact.json.z")),
    ("fast", include_bytes!("../ptx/fast.json.z")),
];

/// Bytes that an archive may unpack to: far more than any has.
const MOST: usize = 64 << 20;

/// The oldest driver that takes the embedded PTX (ISA 8.0), as `cuDriverGetVersion` says it: CUDA 12.0, which came with
/// driver 525.
pub const OLDEST_DRIVER: i32 = 12_000;

/// The oldest generation of GPUs, by compute capability, that kernels are made for: Turing.
pub const OLDEST_CAPABILITY: (u32, u32) = (7, 5);

/// Texts of a class, each kept once, and which file of which generation is which.
#[derive(Deserialize)]
struct Archive {
    /// PTX, with `@` where the generation stands.
    texts: Vec<String>,
    /// File from `kernels/` on; generation, ten times the major number and the minor one; place in `texts`.
    files: BTreeMap<String, BTreeMap<u32, usize>>,
}

/// The PTX of every file of a class.
#[derive(Debug, Clone)]
pub struct Texts {
    files: BTreeMap<String, BTreeMap<u32, String>>,
}

impl Texts {
    /// Unpacks a class, `exact` or `fast`; `None` when there is no such class.
    ///
    /// # Panics
    ///
    /// When the embedded archive is damaged, which a test rules out.
    pub fn of_class(class: &str) -> Option<Self> {
        let (_, packed) = PACKED.iter().find(|(name, _)| *name == class)?;
        let json = miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(packed, MOST);
        let json = json.expect("the embedded archive is whole");
        let Archive { texts, files } = serde_json::from_slice(&json).expect("the embedded archive is JSON");
        let of = |(generation, text): (u32, usize)| {
            let target = format!(".target sm_{generation}");
            (generation, texts[text].replacen(".target sm_@", &target, 1))
        };
        let files = files.into_iter().map(|(file, by)| (file, by.into_iter().map(of).collect())).collect();
        Some(Self { files })
    }

    /// The PTX of a file, from `kernels/` on, that suits a GPU of this compute capability best. `None` where there is no
    /// such file, or the GPU is older than all that it was made for.
    pub fn get(&self, file: &str, (major, minor): (u32, u32)) -> Option<&str> {
        let generations = self.files.get(file)?.range(..=major * 10 + minor);
        generations.last().map(|(_, text)| text.as_str())
    }

    /// Files and the generations that they were made for.
    pub fn files(&self) -> impl Iterator<Item = (&str, Vec<u32>)> {
        self.files.iter().map(|(file, by)| (file.as_str(), by.keys().copied().collect()))
    }
}
