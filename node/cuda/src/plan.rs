//! What training takes of a GPU's memory, item by item, and whether a step fits into what was lent, before it begins.

use std::fmt;

use talkoot_trainer::plan::{Ahead, Class, How, Item, OnHost, PlanError, Setting, Task};

use crate::{
    Cuda,
    blank::{Way, parts},
    class,
    device::{Device, workspace_bytes},
};

/// Memory that is nobody's to hand out: what the driver takes for a process and its kernels, 0.3 to 0.5 GiB of GPUs of today by
/// what others report, and as much again for a screen. **An assumption; nothing of it was measured here.**
pub const CONTEXT_BYTES: u64 = 1 << 30;

/// Compute capability from which on cuBLASLt's workspace is the larger one.
const LARGE_WORKSPACE: (u32, u32) = (9, 0);

/// What a GPU's memory holds in a setting, when most is in use: the slab to the byte, and what is beside it.
///
/// # Errors
///
/// [`PlanError`] when packs are too short to learn from.
pub fn on_gpu(task: &Task<'_>, setting: &Setting) -> Result<Vec<Item>, PlanError> {
    let &Setting { class, library, on_host, keep, moments, frozen, .. } = setting;
    let (steps, way) = ((task, How { keep, moments, frozen }), Way { class, library, on_host });
    let found = parts(&steps, way)?;
    let workspace = if library { workspace_bytes(LARGE_WORKSPACE) as u64 } else { 0 };
    let rest = found.highest - found.slots - found.weights - found.moments;
    let mut items = vec![
        Item { name: "weights", bytes: found.weights },
        Item { name: "moments", bytes: found.moments },
        Item { name: "gradients, values, what a block works with", bytes: rest },
        Item { name: "slices that visit from the host", bytes: found.slots },
        Item { name: "workspace of cuBLASLt", bytes: workspace },
        Item { name: CONTEXT, bytes: CONTEXT_BYTES },
    ];
    items.retain(|item| item.bytes > 0);
    Ok(items)
}

/// What is beside the slab whatever trains.
const CONTEXT: &str = "driver, kernels and a screen (assumed)";

/// Bytes of the slab that a setting's items need, to be said as `--device-memory`.
pub fn slab_of(items: &[Item]) -> u64 {
    let beside = |item: &&Item| !["workspace of cuBLASLt", CONTEXT].contains(&item.name);
    items.iter().filter(beside).map(|item| item.bytes).sum()
}

/// The memory that was lent is too little for a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooSmall {
    /// Bytes that a step takes as the GPU is used.
    pub needed: u64,
    /// Bytes of the slab.
    pub there: u64,
    /// What would rest on the host, and the bytes that a step takes then: the least copying that fits, or, where nothing fits,
    /// everything.
    pub instead: (OnHost, u64),
}

impl std::error::Error for TooSmall {}

impl fmt::Display for TooSmall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { needed, there, instead: (on_host, bytes) } = self;
        let (needed, has, bytes) = (Gib(*needed), Gib(*there), Gib(*bytes));
        write!(f, "a step takes {needed} GiB of the GPU's memory, and it was lent {has}")?;
        if instead_fits(self) {
            write!(f, ": say --offload {on_host}, which takes {bytes}, or --device-memory {needed}")
        } else if bytes.0 < needed.0 {
            write!(f, ": say --device-memory {needed}, or --offload {on_host} and --device-memory {bytes}")
        } else {
            write!(f, ": say --device-memory {needed}")
        }
    }
}

fn instead_fits(small: &TooSmall) -> bool {
    small.instead.1 <= small.there
}

/// Bytes as GiB, rounded up so that what is said is enough.
#[derive(Clone, Copy)]
struct Gib(u64);

impl fmt::Display for Gib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hundredths = (u128::from(self.0) * 100).div_ceil(1 << 30);
        write!(f, "{}.{:02}", hundredths / 100, hundredths % 100)
    }
}

/// Whether what is ahead fits into the slab of a device, where it has one. A library's copies don't count: it does without
/// them where they find no room.
///
/// # Errors
///
/// [`PlanError`] when nothing can be said; [`TooSmall`], inside, when it does not fit.
pub fn check<D: Device, C: class::Class>(
    cuda: &Cuda<D, C>,
    class: Class,
    ahead: &Ahead<'_>,
) -> Result<Result<(), TooSmall>, PlanError> {
    let Some(there) = cuda.device().room() else { return Ok(Ok(())) };
    let needs = |on_host| Ok::<_, PlanError>(parts(ahead, Way { class, library: false, on_host })?.highest);
    let now = cuda.on_host();
    let needed = needs(now)?;
    if needed <= there {
        return Ok(Ok(()));
    }
    let more = |other: &OnHost| {
        let kept = |now: bool, then: bool| then || !now;
        kept(now.moments, other.moments)
            && kept(now.gradients, other.gradients)
            && kept(now.values, other.values)
    };
    let mut instead = (now, needed);
    for on_host in OnHost::all().into_iter().filter(more) {
        instead = (on_host, needs(on_host)?);
        if instead.1 <= there {
            break;
        }
    }
    Ok(Err(TooSmall { needed, there, instead }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_help_is_named() {
        let on_host = OnHost { moments: true, gradients: false, values: false };
        let small = |there, bytes| TooSmall { needed: 3 << 30, there, instead: (on_host, bytes) }.to_string();
        assert_eq!(
            small(2 << 30, (1 << 30) + 1),
            "a step takes 3.00 GiB of the GPU's memory, and it was lent 2.00: say --offload moments, which takes 1.01, or \
             --device-memory 3.00"
        );
        assert!(
            small(1 << 30, 2 << 30)
                .ends_with("say --device-memory 3.00, or --offload moments and --device-memory 2.00")
        );
        assert!(small(1 << 30, 3 << 30).ends_with("lent 1.00: say --device-memory 3.00"));
    }
}
