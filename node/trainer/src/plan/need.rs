//! What a step in a setting needs, item by item.

use serde::Serialize;

use super::{
    Load, PlanError,
    memory::{self, Peak},
    rehearsal::{Rehearsal, Role, two_steps},
    rooms::{Rooms, SLICE_WORDS, SLOTS},
    setting::{Class, Device, Offload, Setting, Values},
};
use crate::{
    backend::Backend,
    config::ModelConfig,
    contribution::{CodecSettings, Layout},
    cpu,
    model::Keep,
    modules::{Module, trainable},
    moments::MomentFormat,
};

/// Something that takes memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// What it is.
    pub name: &'static str,
    /// How much it takes.
    pub bytes: u64,
}

/// What a step needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Need {
    /// In which setting.
    pub setting: Setting,
    /// In the GPU's memory; nothing where the processor computes.
    pub device: Vec<Item>,
    /// In the host's memory.
    pub host: Vec<Item>,
    /// Floating-point operations of the step's mathematics: what MFU is counted with.
    pub model_flops: u128,
    /// The same with what is computed again.
    pub executed_flops: u128,
    /// Bytes that go over the bus between host and GPU.
    pub bus_bytes: u64,
}

impl Need {
    /// Bytes in the GPU's memory.
    pub fn device_bytes(&self) -> u64 {
        self.device.iter().map(|item| item.bytes).sum()
    }

    /// Bytes in the host's memory.
    pub fn host_bytes(&self) -> u64 {
        self.host.iter().map(|item| item.bytes).sum()
    }
}

/// A model, what it trains, and what a step works on.
#[derive(Debug)]
pub struct Task<'a> {
    config: &'a ModelConfig,
    codec: CodecSettings,
    /// Parameters in canonical order: numbers, whether trained, whether a matrix.
    parameters: Vec<(u64, bool, bool)>,
    /// The longer side of the largest matrix.
    widest: usize,
    layout: Layout,
    load: Load,
    trained: Vec<String>,
}

/// Memory that a driver takes for itself and for kernels. An assumption.
const CONTEXT: u64 = 512 << 20;

impl<'a> Task<'a> {
    /// Training `modules` of a model.
    ///
    /// # Errors
    ///
    /// [`PlanError`] when the config cannot be built or nothing is trained.
    pub fn new(
        config: &'a ModelConfig,
        modules: &[Module],
        load: Load,
        codec: CodecSettings,
    ) -> Result<Self, PlanError> {
        config.validate()?;
        codec.validate()?;
        let trained = trainable(config, modules);
        if trained.is_empty() {
            return Err(PlanError::NothingTrained);
        }
        let shapes = config.parameter_shapes();
        let numbers = |shape: &Vec<usize>| shape.iter().map(|&axis| axis as u64).product::<u64>();
        let parameters = shapes.iter().map(|(name, shape)| {
            (numbers(shape), trained.binary_search(name).is_ok(), is_matrix(name, shape))
        });
        let sides = |shape: &Vec<usize>| shape.first().copied().max(Some(shape.iter().skip(1).product()));
        let widest = shapes.values().filter_map(sides).max().unwrap_or(0);
        let entries = trained.iter().map(|name| (name.clone(), numbers(&shapes[name]))).collect();
        let layout = Layout::new(entries)?;
        Ok(Self { config, codec, parameters: parameters.collect(), widest, layout, load, trained })
    }

    /// Numbers of all parameters, and of those that are trained.
    pub fn parameters(&self) -> (u64, u64) {
        let all = self.parameters.iter().map(|(numbers, ..)| numbers).sum();
        (all, self.layout.elements())
    }

    /// What a step works on.
    pub fn load(&self) -> &Load {
        &self.load
    }

    /// Plays two steps of the task on a device, as they are trained, but for the numbers: what it then has taken is what
    /// training takes. Weights are of any value.
    ///
    /// # Errors
    ///
    /// [`PlanError`] when the device has no room, or packs are too short to learn from.
    pub fn play<B: Backend>(&self, backend: &B, keep: Keep, moments: MomentFormat) -> Result<(), PlanError> {
        two_steps(backend, self.config, &self.trained, &self.load, (keep, moments), &|_| ())
    }

    /// Runs the trainer's code on a device that only counts, once for each way of keeping values.
    ///
    /// # Errors
    ///
    /// [`PlanError::NothingLearned`] when packs are too short to learn from.
    pub fn rehearse(&self, device: Device) -> Result<Rehearsed<'_>, PlanError> {
        let rooms = match device {
            Device::Cpu { threads } => Rooms::Cpu { threads },
            Device::Gpu => Rooms::Gpu,
        };
        let run = |keep| Rehearsal::run(self.config, &self.trained, &self.load, keep, rooms);
        Ok(Rehearsed { task: self, inputs: run(Keep::Inputs)?, everything: run(Keep::Everything)? })
    }
}

/// Linear maps and tables, which are read in bf16 by the fast class. The class token's angles are read on the host.
fn is_matrix(name: &str, shape: &[usize]) -> bool {
    shape.len() >= 2 && name != "visual.class_pos_emb"
}

/// A task that was rehearsed.
#[derive(Debug)]
pub struct Rehearsed<'a> {
    task: &'a Task<'a>,
    inputs: Rehearsal,
    everything: Rehearsal,
}

impl Rehearsed<'_> {
    /// What a step needs in a setting.
    pub fn need(&self, setting: Setting) -> Need {
        let rehearsal = match setting.keep {
            Keep::Inputs => &self.inputs,
            Keep::Everything => &self.everything,
        };
        let (device, mut host) = match setting.device {
            Device::Cpu { threads } => (Vec::new(), self.on_processor(rehearsal, setting, threads)),
            Device::Gpu => self.on_gpu(rehearsal, setting),
        };
        host.extend(self.around());
        host.retain(|item| item.bytes > 0);
        Need {
            setting,
            device,
            host,
            model_flops: self.everything.operations.model,
            executed_flops: rehearsal.operations.executed,
            bus_bytes: self.bus(setting),
        }
    }

    fn on_processor(&self, rehearsal: &Rehearsal, setting: Setting, threads: usize) -> Vec<Item> {
        let bytes = |role: Role, numbers: u64| match role {
            Role::Moment => setting.moments.bytes(numbers),
            _ => 4 * numbers,
        };
        let peak = memory::on_shelf(rehearsal, &bytes);
        let blocks = threads as u64 * cpu::product_room(self.task.widest);
        let mut items = items(&peak, "buffers on the shelf, for the next of their size");
        items.push(Item { name: "packed blocks of matrix products, per thread", bytes: blocks });
        items
    }

    fn on_gpu(&self, rehearsal: &Rehearsal, setting: Setting) -> (Vec<Item>, Vec<Item>) {
        let away = setting.offload == Offload::Optimizer;
        let half = |role: Role| match role {
            Role::Weight(at) => {
                let (_, trained, matrix) = self.task.parameters[at];
                matrix
                    && if trained {
                        away && setting.class == Class::Fast
                    } else {
                        setting.frozen == Values::Bf16
                    }
            }
            Role::Kept | Role::Working => setting.values == Values::Bf16,
            Role::Moment | Role::Gradient => false,
        };
        let bytes = |role: Role, numbers: u64| match role {
            Role::Moment if setting.offload != Offload::Nothing => 0,
            Role::Moment => setting.moments.bytes(numbers),
            Role::Gradient if away => 0,
            role => numbers * if half(role) { 2 } else { 4 },
        };
        let peak = memory::in_slab(rehearsal, &bytes);
        let mut device = items(&peak, "gaps of the arena");
        let staging = self.staging(setting);
        device.push(Item { name: "slices on their way to the host and back", bytes: staging });
        device.push(Item { name: "driver and kernels (assumed)", bytes: CONTEXT });
        device.retain(|item| item.bytes > 0);
        let trained = self.task.layout.elements();
        let mut host = Vec::new();
        if setting.offload != Offload::Nothing {
            let bytes = 2 * setting.moments.bytes(trained);
            host.push(Item { name: "moments, offloaded", bytes });
        }
        if away {
            host.push(Item { name: "f32 weights, offloaded", bytes: 4 * trained });
            host.push(Item { name: "gradients, offloaded", bytes: 4 * trained });
        }
        (device, host)
    }

    /// Memory on the GPU through which offloaded numbers come and go.
    fn staging(&self, setting: Setting) -> u64 {
        match setting.offload {
            Offload::Nothing => 0,
            Offload::Moments => (SLOTS * 2 * 4 * SLICE_WORDS) as u64,
            // a gradient is whole before it goes, and the next one is made meanwhile
            Offload::Optimizer => {
                let trained = self.task.parameters.iter().filter(|(_, trained, _)| *trained);
                let mut sizes: Vec<u64> = trained.map(|(numbers, ..)| 4 * numbers).collect();
                sizes.sort_unstable_by(|a, b| b.cmp(a));
                sizes.iter().take(2).sum()
            }
        }
    }

    /// Bytes over the bus in a step: pictures in, and what is offloaded in and out.
    fn bus(&self, setting: Setting) -> u64 {
        if let Device::Cpu { .. } = setting.device {
            return 0;
        }
        let trained = self.task.layout.elements();
        let (load, vision) = (&self.task.load, &self.task.config.vision);
        let patches = u64::from(load.packs) * load.patches() * vision.patch_values() as u64 * 4;
        patches
            + match setting.offload {
                Offload::Nothing => 0,
                Offload::Moments => 4 * setting.moments.bytes(trained),
                // gradients out once for every group that is added up, new weights in
                Offload::Optimizer => {
                    let groups = u64::from(load.packs.div_ceil(load.together()));
                    4 * trained * groups + 2 * trained
                }
            }
    }

    /// What a contribution takes on the host around its steps, on any device.
    fn around(&self) -> Vec<Item> {
        let (all, trained) = self.task.parameters();
        let (load, vision) = (&self.task.load, &self.task.config.vision);
        let pack = load.patches() * vision.patch_values() as u64 * 4;
        let packs = pack * u64::from(load.packs) + pack * u64::from(load.together());
        vec![
            Item { name: "pictures of a step's packs, cut into patches", bytes: packs },
            Item { name: "weights that the round starts from and ends with", bytes: 8 * all },
            Item { name: "pseudo-gradient", bytes: 4 * trained },
            Item { name: "error feedback, and its bytes in and out", bytes: 12 * trained },
            Item { name: "contribution, at most", bytes: self.task.codec.max_bytes(&self.task.layout) },
        ]
    }
}

fn items(peak: &Peak, slack: &'static str) -> Vec<Item> {
    vec![
        Item { name: "weights", bytes: peak.weights },
        Item { name: "gradients", bytes: peak.gradients },
        Item { name: "moments", bytes: peak.moments },
        Item { name: "values kept for backward", bytes: peak.kept },
        Item { name: "working set of a block or of the head", bytes: peak.working },
        Item { name: "inside operations: logits of a few rows, attention", bytes: peak.rooms },
        Item { name: slack, bytes: peak.slack },
    ]
}
