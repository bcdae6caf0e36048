//! Which processor backend a benchmark runs on.

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use talkoot_trainer::cpu::{Cpu, Isa, Level, Products};

/// The processor as a device.
#[derive(Debug, Args)]
pub(crate) struct CpuChoice {
    /// Whose matrix products: the exact class's, or the gemm crate's, which are not the same on every machine.
    #[arg(long, value_enum, default_value_t = Kind::Exact)]
    products: Kind,
    /// Vector instructions: portable, avx2 or avx512; the widest when left out.
    #[arg(long)]
    isa: Option<String>,
}

/// Kinds of matrix products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Exact,
    Gemm,
}

impl CpuChoice {
    /// The device, and what to call it.
    pub(crate) fn open(&self) -> Result<(Cpu, String)> {
        let isa = match &self.isa {
            None => Isa::best(),
            Some(name) => {
                let level = Level::ALL.into_iter().find(|level| level.name() == name);
                let level = level.with_context(|| format!("{name:?} is none of portable, avx2, avx512"))?;
                Isa::new(level).with_context(|| format!("this processor has no {name}"))?
            }
        };
        let (products, kind) = match self.products {
            Kind::Exact => (Products::FixedOrder, "exact"),
            Kind::Gemm => (Products::GemmCrate, "gemm crate"),
        };
        Ok((Cpu::new(isa, products), format!("cpu, {}, {kind}", isa.level().name())))
    }
}
