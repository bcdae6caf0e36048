//! Choices that change what a step needs.

use std::{fmt, str::FromStr};

use serde::Serialize;

use crate::{
    config::ModelConfig,
    inner::{GROUP_ROWS, KEPT_BYTES},
    model::Keep,
    moments::{MomentFormat, eight_bit::packed_words},
};

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Device {
    /// The processor, with so many threads.
    Cpu {
        /// Threads.
        threads: usize,
    },
    /// One GPU.
    Gpu,
}

/// Which numbers a step is computed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// f32 in a fixed order: the same bits everywhere.
    Exact,
    /// Products of bf16 numbers, summed in f32.
    Fast,
}

/// What rests in the host's memory between its uses. It changes no bit, so it is a choice of whoever lends the GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct OnHost {
    /// AdamW's moments: they come in slices while the optimiser runs.
    pub moments: bool,
    /// Gradients: they go as backward leaves a block, and come back for the next batch of a step and for the optimiser.
    pub gradients: bool,
    /// What forward leaves for backward: it goes as forward leaves a block, and comes back before backward is there.
    pub values: bool,
}

/// How numbers of matrices are held that are not trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Values {
    /// 4 bytes a number.
    F32,
    /// 2 bytes a number, where all of a matrix are bf16 numbers, as in checkpoints that were released: nothing is lost.
    #[default]
    Bf16,
}

/// How a task is played, on any device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct How {
    /// What is kept for backward.
    pub keep: Keep,
    /// How moments are held.
    pub moments: MomentFormat,
    /// How matrices are held that are not trained.
    pub frozen: Values,
}

/// One way to take a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// What computes.
    pub device: Device,
    /// In which numbers.
    pub class: Class,
    /// Whether a library does products of the class fast; our own kernels do without its copies in bf16.
    pub library: bool,
    /// Whether blocks are computed again in backward.
    #[serde(serialize_with = "keep_word")]
    pub keep: Keep,
    /// The moments: a term of the run, since it decides bits.
    pub moments: MomentFormat,
    /// What waits elsewhere.
    pub on_host: OnHost,
    /// Matrices that are not trained: what the checkpoint is.
    pub frozen: Values,
}

fn keep_word<S: serde::Serializer>(keep: &Keep, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match keep {
        Keep::Inputs => "inputs",
        Keep::Everything => "everything",
    })
}

/// Bytes of `numbers` moments of one kind.
pub(super) fn moment_bytes(format: MomentFormat, numbers: u64) -> u64 {
    match format {
        MomentFormat::F32 => 4 * numbers,
        MomentFormat::EightBit => 4 * packed_words(numbers as usize) as u64,
    }
}

impl OnHost {
    /// Everything stays on the device.
    pub const NOTHING: Self = Self { moments: false, gradients: false, values: false };

    /// Every choice, that of least copying first.
    pub fn all() -> [Self; 8] {
        [0u8, 1, 2, 3, 4, 5, 6, 7].map(|bits| Self {
            moments: bits & 1 != 0,
            gradients: bits & 2 != 0,
            values: bits & 4 != 0,
        })
    }

    fn parts(self) -> impl Iterator<Item = &'static str> {
        let Self { moments, gradients, values } = self;
        let all = [(moments, "moments"), (gradients, "gradients"), (values, "values")];
        all.into_iter().filter_map(|(there, name)| there.then_some(name))
    }
}

impl fmt::Display for OnHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<&str> = self.parts().collect();
        f.write_str(if parts.is_empty() { "nothing".to_owned() } else { parts.join(",") }.as_str())
    }
}

/// A text that does not say what is to rest in the host's memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{part:?} does not rest on the host: choose nothing, or some of moments, gradients and values with commas between"
)]
pub struct ParseOnHostError {
    part: String,
}

impl FromStr for OnHost {
    type Err = ParseOnHostError;

    fn from_str(text: &str) -> Result<Self, ParseOnHostError> {
        let mut on_host = Self::NOTHING;
        if text == "nothing" {
            return Ok(on_host);
        }
        for part in text.split(',') {
            match part.trim() {
                "moments" => on_host.moments = true,
                "gradients" => on_host.gradients = true,
                "values" => on_host.values = true,
                other => return Err(ParseOnHostError { part: other.to_owned() }),
            }
        }
        Ok(on_host)
    }
}

/// What training keeps of a model for backward: everything where that is little.
pub fn usual_keep(config: &ModelConfig) -> Keep {
    Keep::within(config, GROUP_ROWS, KEPT_BYTES)
}

impl Setting {
    /// All settings of a device, in no order that matters.
    pub fn all(device: Device, keep: Keep, frozen: Values) -> Vec<Self> {
        let ways: &[(Class, bool)] = match device {
            Device::Gpu => &[(Class::Fast, true), (Class::Fast, false), (Class::Exact, false)],
            Device::Cpu { .. } => &[(Class::Exact, false)],
        };
        let mut all = Vec::new();
        for &(class, library) in ways {
            for moments in [MomentFormat::F32, MomentFormat::EightBit] {
                for on_host in OnHost::all() {
                    all.push(Self { device, class, library, keep, moments, on_host, frozen });
                }
            }
        }
        // on a processor there is nowhere else to be
        all.retain(|setting| device == Device::Gpu || setting.on_host == OnHost::NOTHING);
        all
    }

    /// What to give to `talkoot node` beside its folder and link; nothing where its defaults are this.
    pub fn switches(&self) -> String {
        let mut switches = Vec::new();
        if self.class == Class::Fast {
            switches.push("--arithmetic tensor-cores".to_owned());
        }
        if self.on_host != OnHost::NOTHING {
            switches.push(format!("--offload {}", self.on_host));
        }
        switches.join(" ")
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = match (self.class, self.library) {
            (Class::Exact, _) => "exact",
            (Class::Fast, true) => "fast by cuBLASLt",
            (Class::Fast, false) => "fast by our own kernels",
        };
        let keep = match self.keep {
            Keep::Inputs => "blocks again",
            Keep::Everything => "all kept",
        };
        let moments = match self.moments {
            MomentFormat::F32 => "f32",
            MomentFormat::EightBit => "8-bit",
        };
        write!(f, "{class}, {keep}, {moments} moments")?;
        if self.on_host != OnHost::NOTHING {
            let parts: Vec<&str> = self.on_host.parts().collect();
            write!(f, ", on the host: {}", parts.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rests_on_the_host_is_written_as_it_is_read() {
        for on_host in OnHost::all() {
            assert_eq!(on_host.to_string().parse(), Ok(on_host));
        }
        assert_eq!("values, moments".parse(), Ok(OnHost { moments: true, gradients: false, values: true }));
        for wrong in ["", "weights", "moments,", "moments;values", "nothing,moments"] {
            let said = wrong.parse::<OnHost>().unwrap_err().to_string();
            assert!(said.contains("choose nothing, or some of"), "{said}");
        }
    }
}
