//! `talkoot doctor`

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use talkoot_cuda::{
    choice::{Choice, Room, open, unlike},
    device::{Gpu, library, survey},
};
use talkoot_execution::Engine;
use talkoot_trainer::cpu::{Isa, Level};

use super::say;

/// What this machine has to train with, what of it is used, and what is missing.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// The folder whose disk is asked how much is free.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// What is asked for, as `talkoot node --device` takes it.
    #[arg(long, value_name = "DEVICE", default_value_t = Choice::Auto)]
    device: Choice,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Serialize)]
struct Findings {
    version: &'static str,
    processor: Processor,
    /// CUDA version of the driver, 12040 for 12.4; nothing where there is no driver that can be used.
    cuda_version: Option<i32>,
    gpus: Vec<Gpu>,
    /// What trains: the processor, or a GPU's name, or those of several that work as one.
    trains_on: String,
    /// Numbers of the GPUs that train, as `--device cuda:N,M` takes them; the first moves the weights and encodes.
    trains_with: Vec<i32>,
    /// What it means that they are not alike; nothing where they are.
    not_alike: Option<String>,
    /// Why no GPU trains, or not all that were asked for, and what to do about it; nothing where one does.
    no_gpu_because: Option<String>,
    /// Version of cuBLASLt, 120402 for 12.4.2; nothing where it is not found.
    cublaslt: Option<usize>,
    /// Why our own kernels do the products of the fast class, and how to change that; nothing where cuBLASLt does them.
    no_cublaslt_because: Option<String>,
    memory_bytes: Option<u64>,
    free_disk_bytes: u64,
}

#[derive(Serialize)]
struct Processor {
    architecture: &'static str,
    instructions: &'static str,
    threads: usize,
}

impl Doctor {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let found = self.examine()?;
        if self.json {
            say(&serde_json::to_string(&found)?);
        } else {
            self.print(&found);
        }
        Ok(ExitCode::SUCCESS)
    }

    fn examine(&self) -> Result<Findings> {
        let (cuda_version, gpus) = survey().map_or((None, Vec::new()), |s| (Some(s.cuda_version), s.gpus));
        let mut why = None;
        // what was asked for and is not there is a finding, no failure
        let gpus_in_use = open(&self.device, Room::default(), &mut why).unwrap_or_else(|unfit| {
            why = Some(unfit);
            Vec::new()
        });
        let described: Vec<&Gpu> = gpus_in_use.iter().map(|gpu| gpu.device().device().gpu()).collect();
        let (trains_with, not_alike) =
            (described.iter().map(|gpu| gpu.ordinal).collect(), unlike(&described));
        let processor = Processor {
            architecture: std::env::consts::ARCH,
            instructions: Isa::best().level().name(),
            threads: rayon::current_num_threads(),
        };
        let products = library();
        let disk = fs4::available_space(&self.dir);
        Ok(Findings {
            version: env!("CARGO_PKG_VERSION"),
            processor,
            cuda_version,
            gpus,
            trains_on: Engine::of_several(gpus_in_use).names(),
            trains_with,
            not_alike,
            no_gpu_because: why.map(|why| why.to_string()),
            cublaslt: products.as_ref().ok().copied(),
            no_cublaslt_because: products.err().map(|missing| missing.to_string()),
            memory_bytes: memory_bytes(),
            free_disk_bytes: disk
                .with_context(|| format!("asking for the free disk of {}", self.dir.display()))?,
        })
    }

    fn print(&self, found: &Findings) {
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        let Processor { architecture, instructions, threads } = &found.processor;
        say(&format!("talkoot {}", found.version));
        say(&format!("processor  {architecture}, {instructions}, {threads} threads"));
        if Isa::best().level() == Level::Portable && cfg!(target_arch = "x86_64") {
            say("           it lacks AVX2 and FMA: right results, but far too slow to train");
        }
        match found.memory_bytes {
            Some(bytes) => say(&format!("memory     {:.1} GiB", gib(bytes))),
            None => say("memory     not known on this system"),
        }
        say(&format!("disk       {:.1} GiB free in {}", gib(found.free_disk_bytes), self.dir.display()));
        match found.cuda_version {
            Some(version) => {
                say(&format!("driver     NVIDIA, CUDA {}.{}", version / 1000, version % 1000 / 10))
            }
            None => say("driver     none of NVIDIA's that can be used"),
        }
        for gpu in &found.gpus {
            let (major, minor) = gpu.capability;
            let usable = gpu.usable().map_or_else(|missing| format!(": {missing}"), |()| String::new());
            let memory = gib(gpu.memory);
            say(&format!(
                "GPU {}      {}, {memory:.1} GiB, compute capability {major}.{minor}{usable}",
                gpu.ordinal, gpu.name
            ));
        }
        // of use to a GPU only
        if !found.gpus.is_empty() {
            match (found.cublaslt, &found.no_cublaslt_because) {
                (Some(version), _) => say(&format!(
                    "products   cuBLASLt {}.{}.{} in the class fast",
                    version / 10_000,
                    version / 100 % 100,
                    version % 100
                )),
                (None, why) => say(&format!("products   {}", why.as_deref().unwrap_or_default())),
            }
        }
        say(&format!("trains on  {}", found.trains_on));
        if let [_, _, ..] = found.trains_with[..] {
            let numbers: Vec<String> = found.trains_with.iter().map(i32::to_string).collect();
            say(&format!("           as one: cuda:{}", numbers.join(",")));
        }
        if let Some(meaning) = &found.not_alike {
            say(&format!("           {meaning}"));
        }
        if let Some(why) = &found.no_gpu_because {
            say(&format!("           {why}"));
        }
    }
}

/// Memory of the machine, where the system says it in a file.
fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}
