//! Choices that change what a step needs.

use std::fmt;

use serde::Serialize;

use crate::{model::Keep, moments::eight_bit::packed_words};

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

/// How AdamW's moments are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MomentType {
    /// 4 bytes a number.
    F32,
    /// 2 bytes a number.
    Bf16,
    /// A byte a number, and an f32 scale for every 256; where the run's terms say so, since it decides bits.
    EightBit,
}

/// What waits in the host's memory between its uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Offload {
    /// Nothing.
    Nothing,
    /// AdamW's moments: they come in slices while the optimiser runs.
    Moments,
    /// Moments, f32 weights and gradients; the device keeps weights that it can compute with.
    Optimizer,
}

/// How numbers are held that are no optimiser's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Values {
    /// 4 bytes a number.
    F32,
    /// 2 bytes a number.
    Bf16,
}

/// One way to take a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// What computes.
    pub device: Device,
    /// In which numbers.
    pub class: Class,
    /// Whether blocks are computed again in backward.
    #[serde(serialize_with = "keep_word")]
    pub keep: Keep,
    /// The moments.
    pub moments: MomentType,
    /// What waits elsewhere.
    pub offload: Offload,
    /// Intermediate values.
    pub values: Values,
    /// Matrices that are not trained.
    pub frozen: Values,
}

fn keep_word<S: serde::Serializer>(keep: &Keep, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match keep {
        Keep::Inputs => "inputs",
        Keep::Everything => "everything",
    })
}

impl MomentType {
    /// Bytes of `numbers` moments of one kind.
    pub fn bytes(self, numbers: u64) -> u64 {
        match self {
            Self::F32 => 4 * numbers,
            Self::Bf16 => 2 * numbers,
            Self::EightBit => 4 * packed_words(numbers as usize) as u64,
        }
    }
}

impl Setting {
    /// All settings of a device, in no order that matters.
    pub fn all(device: Device) -> Vec<Self> {
        let mut all = Vec::new();
        for class in [Class::Fast, Class::Exact] {
            for keep in [Keep::Everything, Keep::Inputs] {
                for moments in [MomentType::F32, MomentType::Bf16, MomentType::EightBit] {
                    for offload in [Offload::Nothing, Offload::Moments, Offload::Optimizer] {
                        for values in [Values::F32, Values::Bf16] {
                            for frozen in [Values::F32, Values::Bf16] {
                                all.push(Self { device, class, keep, moments, offload, values, frozen });
                            }
                        }
                    }
                }
            }
        }
        all.retain(Self::makes_sense);
        all
    }

    /// The exact class is defined in f32 and in moments of eight bits, and on a processor there is nowhere to offload to.
    fn makes_sense(&self) -> bool {
        let f32_alone = [self.values, self.frozen] == [Values::F32; 2];
        let plain = self.moments != MomentType::Bf16 && f32_alone;
        match (self.device, self.class) {
            (Device::Cpu { .. }, Class::Fast) => false,
            (Device::Cpu { .. }, Class::Exact) => plain && self.offload == Offload::Nothing,
            (Device::Gpu, Class::Exact) => plain,
            (Device::Gpu, Class::Fast) => true,
        }
    }

    /// What this program lacks to train in this setting.
    pub fn lacks(&self) -> Vec<&'static str> {
        if let Device::Cpu { .. } = self.device {
            return Vec::new();
        }
        let mut lacks = Vec::new();
        if self.values == Values::Bf16 {
            lacks.push("intermediate values in bf16");
        }
        if self.frozen == Values::Bf16 {
            lacks.push("frozen weights in bf16");
        }
        match self.moments {
            MomentType::F32 | MomentType::EightBit => {}
            MomentType::Bf16 => lacks.push("moments in bf16"),
        }
        match self.offload {
            Offload::Nothing | Offload::Moments => {}
            Offload::Optimizer => lacks.push("weights and gradients in host memory"),
        }
        lacks
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = match self.class {
            Class::Exact => "exact",
            Class::Fast => "fast",
        };
        let keep = match self.keep {
            Keep::Inputs => "blocks again",
            Keep::Everything => "all kept",
        };
        let moments = match self.moments {
            MomentType::F32 => "f32",
            MomentType::Bf16 => "bf16",
            MomentType::EightBit => "8-bit",
        };
        write!(f, "{class}, {keep}, {moments} moments")?;
        if self.values == Values::Bf16 {
            f.write_str(", bf16 values")?;
        }
        if self.frozen == Values::Bf16 {
            f.write_str(", frozen weights bf16")?;
        }
        f.write_str(match self.offload {
            Offload::Nothing => "",
            Offload::Moments => ", moments on the host",
            Offload::Optimizer => ", optimiser on the host",
        })
    }
}
