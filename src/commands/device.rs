//! `--device`: GPUs or the processor.

use anyhow::{Result, bail};
use clap::Args;
use talkoot_cuda::{
    Cuda,
    choice::{Choice, Room, Unfit, find, find_all, open, unlike},
    device::Driver,
};
use talkoot_execution::{Arithmetic, Engine, choose_engine};
use talkoot_trainer::plan::OnHost;

/// What trains and replays.
#[derive(Debug, Clone, Args)]
pub(super) struct Trains {
    /// What trains: a GPU where one can be used and the processor otherwise (auto), the processor (cpu), GPU N (cuda:N),
    /// several GPUs as one (cuda:0,1, the first with the most to keep in memory), or all that can be used (cuda:all). The
    /// results are the same. `talkoot doctor` says what was found.
    #[arg(long, value_name = "DEVICE", default_value_t = Choice::Auto)]
    device: Choice,
    /// Take so many GiB of each GPU's memory at the start and keep them, instead of asking for memory as work goes.
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
    /// Opens the devices, has them show that their bits are those of the exact class, and makes them the process's.
    pub(super) fn prepare(&self) -> Result<()> {
        let mut why: Option<Unfit> = None;
        let room = Room { slab: self.device_memory, on_host: self.offload };
        let gpus = open(&self.device, room, &mut why)?;
        match why {
            Some(why) if gpus.is_empty() => tracing::info!(%why, "training on the processor"),
            Some(why) => tracing::info!(%why, "a GPU is left out"),
            None => {}
        }
        let described: Vec<_> = gpus.iter().map(|gpu| gpu.device().device().gpu()).collect();
        if let Some(meaning) = unlike(&described) {
            tracing::info!(%meaning, "the GPUs are not alike");
        }
        if gpus.len() > 1 && self.offload.gradients {
            bail!(
                "--offload gradients is for one GPU: where several work as one, gradients go from one to the next; leave \
                 `gradients` out, or choose one GPU with --device cuda:N"
            );
        }
        let engine = Engine::of_several(gpus);
        tracing::info!(
            device = %engine.describe(Arithmetic::Exact),
            "what trains, where nothing else is asked for"
        );
        choose_engine(engine);
        Ok(())
    }
}

/// What is measured or checked.
#[derive(Debug, Clone, Args)]
pub(super) struct Measured {
    /// What is measured or checked: cpu, or cuda:N for GPU N. `bench bits` also takes several as one, cuda:N,M or cuda:all.
    #[arg(long, value_name = "DEVICE", default_value_t = Choice::Cpu, conflicts_with_all = ["products", "isa"])]
    device: Choice,
}

impl Measured {
    /// The GPU, where it is one.
    pub(super) fn gpu(&self) -> Result<Option<Cuda<Driver>>> {
        Ok(find(&self.device, &mut None)?.map(Cuda::new))
    }

    /// The GPU with those that help it, where there are some.
    pub(super) fn gpus(&self) -> Result<Option<Cuda<Driver>>> {
        let mut each = find_all(&self.device, &mut None)?.into_iter().map(Cuda::new);
        Ok(each.next().map(|first| first.with_others(each.collect())))
    }
}
