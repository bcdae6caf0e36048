//! What a step in a setting needs, item by item.

use serde::Serialize;

use super::{
    Load, PlanError,
    memory::{self, Peak},
    rehearsal::{Mark, Rehearsal, Role, Steps},
    rooms::Rooms,
    setting::{Device, How, Setting, Values, moment_bytes, usual_keep},
};
use crate::{
    backend::Backend,
    config::ModelConfig,
    contribution::{CodecSettings, Layout},
    cpu,
    model::Keep,
    modules::{Module, trainable},
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
    /// Numbers of all parameters.
    parameters: u64,
    /// The longer side of the largest matrix.
    widest: usize,
    layout: Layout,
    load: Load,
    trained: Vec<String>,
}

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
        let parameters = shapes.values().map(numbers).sum();
        let sides = |shape: &Vec<usize>| shape.first().copied().max(Some(shape.iter().skip(1).product()));
        let widest = shapes.values().filter_map(sides).max().unwrap_or(0);
        let entries = trained.iter().map(|name| (name.clone(), numbers(&shapes[name]))).collect();
        let layout = Layout::new(entries)?;
        Ok(Self { config, codec, parameters, widest, layout, load, trained })
    }

    /// Numbers of all parameters, and of those that are trained.
    pub fn parameters(&self) -> (u64, u64) {
        (self.parameters, self.layout.elements())
    }

    /// What a step works on.
    pub fn load(&self) -> &Load {
        &self.load
    }

    /// What it trains.
    pub fn config(&self) -> &ModelConfig {
        self.config
    }

    /// Plays two steps of the task on a device, as they are trained, but for the numbers: what it then has taken is what
    /// training takes. Weights are of any value. `mark` hears where it is.
    ///
    /// # Errors
    ///
    /// [`PlanError`] when the device has no room, or packs are too short to learn from.
    pub fn play<B: Backend>(&self, backend: &B, how: How, mark: &dyn Fn(Mark)) -> Result<(), PlanError> {
        let How { keep, moments, frozen } = how;
        let packs = self.load.samples(self.config);
        let steps = Steps { config: self.config, trained: &self.trained, packs: &packs, keep, moments };
        steps.play(backend, |_| frozen == Values::Bf16, mark)
    }

    /// Runs the trainer's code on a device that only counts, keeping for backward what training keeps.
    ///
    /// # Errors
    ///
    /// [`PlanError::NothingLearned`] when packs are too short to learn from.
    pub fn rehearse(&self, device: Device) -> Result<Rehearsed<'_>, PlanError> {
        self.rehearse_keeping(device, usual_keep(self.config))
    }

    /// The same, keeping what is said.
    ///
    /// # Errors
    ///
    /// As [`Self::rehearse`].
    pub fn rehearse_keeping(&self, device: Device, keep: Keep) -> Result<Rehearsed<'_>, PlanError> {
        let rooms = match device {
            Device::Cpu { threads } => Rooms::Cpu { threads },
            Device::Gpu => Rooms::Gpu,
        };
        let run = |keep| Rehearsal::run(self.config, &self.trained, &self.load, keep, rooms);
        let rehearsal = run(keep)?;
        // what is computed again is none of the mathematics
        let model_flops = match keep {
            Keep::Everything => rehearsal.operations.model,
            Keep::Inputs => run(Keep::Everything)?.operations.model,
        };
        Ok(Rehearsed { task: self, device, keep, rehearsal, model_flops })
    }
}

/// A task that was rehearsed.
#[derive(Debug)]
pub struct Rehearsed<'a> {
    task: &'a Task<'a>,
    device: Device,
    keep: Keep,
    rehearsal: Rehearsal,
    /// Of a step's mathematics.
    model_flops: u128,
}

impl Rehearsed<'_> {
    /// On what.
    pub fn device(&self) -> Device {
        self.device
    }

    /// What is kept for backward.
    pub fn keep(&self) -> Keep {
        self.keep
    }

    /// What a step needs in a setting of this device, where a GPU's memory holds `on_gpu`.
    pub fn need(&self, setting: Setting, on_gpu: Vec<Item>) -> Need {
        let mut host = match self.device {
            Device::Cpu { threads } => self.on_processor(setting, threads),
            Device::Gpu => self.beside_gpu(setting),
        };
        host.extend(self.around());
        host.retain(|item| item.bytes > 0);
        Need {
            setting,
            device: on_gpu,
            host,
            model_flops: self.model_flops,
            executed_flops: self.rehearsal.operations.executed,
            bus_bytes: self.bus(setting),
        }
    }

    fn on_processor(&self, setting: Setting, threads: usize) -> Vec<Item> {
        let bytes = |role: Role, numbers: u64| match role {
            Role::Moment => moment_bytes(setting.moments, numbers),
            _ => 4 * numbers,
        };
        let peak = memory::on_shelf(&self.rehearsal, &bytes);
        let blocks = threads as u64 * cpu::product_room(self.task.widest);
        let mut items = items(&peak, "buffers on the shelf, for the next of their size");
        items.push(Item { name: "packed blocks of matrix products, per thread", bytes: blocks });
        items
    }

    /// What rests in the host's memory.
    fn beside_gpu(&self, setting: Setting) -> Vec<Item> {
        let trained = self.task.layout.elements();
        let on_host = setting.on_host;
        let of = |there: bool, bytes: u64| if there { bytes } else { 0 };
        let moments = 2 * moment_bytes(setting.moments, trained);
        vec![
            Item { name: "moments, offloaded", bytes: of(on_host.moments, moments) },
            Item { name: "gradients, offloaded", bytes: of(on_host.gradients, 4 * trained) },
            Item { name: "values, offloaded", bytes: of(on_host.values, 4 * self.rehearsal.kept_at_once) },
        ]
    }

    /// Bytes over the bus in a step: pictures in, and what is offloaded in and out.
    fn bus(&self, setting: Setting) -> u64 {
        if let Device::Cpu { .. } = setting.device {
            return 0;
        }
        let trained = self.task.layout.elements();
        let (load, vision) = (&self.task.load, &self.task.config.vision);
        let groups = u64::from(load.packs.div_ceil(load.together()));
        let patches = u64::from(load.packs) * load.patches() * vision.patch_values() as u64 * 4;
        let of = |there: bool, bytes: u64| if there { bytes } else { 0 };
        let on_host = setting.on_host;
        patches
            + of(on_host.moments, 4 * moment_bytes(setting.moments, trained))
            // out behind every group that is added up, in before all but the first, and in for the optimiser
            + of(on_host.gradients, 2 * groups * 4 * trained)
            + of(on_host.values, 2 * 4 * self.rehearsal.kept)
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
