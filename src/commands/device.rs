//! `--device`: a GPU or the processor.

use anyhow::Result;
use clap::Args;
use talkoot_cuda::{
    Cuda,
    choice::{Choice, Room, Unfit, find, open},
    device::{Device, Driver},
};
use talkoot_execution::{Engine, choose_engine};
use talkoot_trainer::plan::OnHost;

/// What trains and replays.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Trains {
    /// What trains: a GPU where one can be used and the processor otherwise (auto), the processor (cpu), or GPU N
    /// (cuda:N). The results are the same. `talkoot doctor` says what was found.
    #[arg(long, value_name = "DEVICE", default_value_t = Choice::Auto)]
    device: Choice,
    /// Take so many GiB of the GPU's memory at the start and keep them, instead of asking for memory as work goes.
    /// `talkoot plan` says how many a model needs.
    #[arg(long, value_name = "GIB", value_parser = gibibytes)]
    device_memory: Option<usize>,
    /// Keep some of these in the host's memory, with commas between, for models that the GPU has no room for: the optimiser's
    /// moments (8 bytes a trained parameter, 2 where the run holds them in 8 bits), gradients (4 bytes), values that forward
    /// leaves for backward. They visit the GPU when they are needed; the results are the same. `talkoot plan` says what
    /// helps.
    #[arg(long, value_name = "LIST", default_value_t = OnHost::NOTHING)]
    offload: OnHost,
}

/// Bytes of a number of GiB.
fn gibibytes(text: &str) -> Result<usize, String> {
    let gib: f64 = text.parse().map_err(|_| format!("{text:?} is no number of GiB"))?;
    if !(0.1..=4096.0).contains(&gib) {
        return Err("say between 0.1 and 4096 GiB".to_owned());
    }
    // At most 2^42, and rounded down to a whole byte.
    Ok((gib * f64::from(1u32 << 30)) as usize)
}

impl Trains {
    /// Opens the device, has it show that its bits are those of the exact class, and makes it the process's.
    pub(super) fn prepare(self) -> Result<()> {
        let mut why: Option<Unfit> = None;
        let room = Room { slab: self.device_memory, on_host: self.offload };
        let gpu = open(self.device, room, &mut why)?;
        match (&gpu, why) {
            (Some(gpu), _) => tracing::info!(device = gpu.device().name(), "training on the GPU"),
            (None, Some(why)) => tracing::info!(%why, "training on the processor"),
            (None, None) => tracing::info!("training on the processor"),
        }
        choose_engine(Engine::new(gpu));
        Ok(())
    }
}

/// What is measured or checked.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Measured {
    /// What is measured or checked: cpu, or cuda:N for GPU N.
    #[arg(long, value_name = "DEVICE", default_value_t = Choice::Cpu, conflicts_with_all = ["products", "isa"])]
    device: Choice,
}

impl Measured {
    /// The GPU, where it is one.
    pub(super) fn gpu(self) -> Result<Option<Cuda<Driver>>> {
        Ok(find(self.device, &mut None)?.map(Cuda::new))
    }
}
