//! Several GPUs of one host as one: which, whether they do, and in what they differ.

use super::{Choice, Unfit, proven};
use crate::{
    Cuda,
    device::{Device, Driver, Gpu, Missing, survey},
};

/// The GPUs that a choice comes to, in the order in which they were named; none for the processor. `Auto` takes the first
/// that can be used and `All` takes all of them; both say in `why` what spoke against one.
///
/// # Errors
///
/// [`Missing`] when a GPU was asked for by name, or all were, and it is not there, or too old.
pub fn find_all(choice: &Choice, why: &mut Option<Unfit>) -> Result<Vec<Driver>, Missing> {
    match choice {
        Choice::Cpu => Ok(Vec::new()),
        Choice::Cuda(number) => Ok(vec![Driver::open(*number)?]),
        Choice::Several(numbers) => numbers.iter().map(|&number| Driver::open(number)).collect(),
        Choice::All => usable(why)?.into_iter().map(Driver::open).collect(),
        Choice::Auto => Ok(usable(why).and_then(|usable| Driver::open(usable[0])).map_or_else(
            |missing| {
                *why = Some(missing.into());
                Vec::new()
            },
            |first| vec![first],
        )),
    }
}

/// Numbers of the GPUs that can be used, one at least.
fn usable(why: &mut Option<Unfit>) -> Result<Vec<usize>, Missing> {
    let mut usable = Vec::new();
    let mut against = None;
    for (number, gpu) in survey()?.gpus.iter().enumerate() {
        match gpu.usable() {
            Ok(()) => usable.push(number),
            Err(missing) => _ = against.get_or_insert(missing),
        }
    }
    match against {
        // where none can be used, the first one says why
        Some(missing) if usable.is_empty() => return Err(missing),
        Some(missing) => *why = Some(missing.into()),
        None if usable.is_empty() => return Err(Missing::NoSuchGpu { index: 0, count: 0 }),
        None => {}
    }
    Ok(usable)
}

/// GPUs of which each has been [`proven`] alone, when the first one has shown the hashes of the exact class with the help of
/// each other one too: that numbers go from one to the other and come back as they were. It takes seconds for each.
///
/// # Errors
///
/// [`Unfit::NotTogether`] names the two that do not work as one.
pub fn together<D: Device>(gpus: Vec<Cuda<D>>) -> Result<Vec<Cuda<D>>, Unfit> {
    let [first, others @ ..] = &*gpus else { return Ok(gpus) };
    for other in others {
        let class = *first.class();
        let pair = first.in_class(class).with_others(vec![other.in_class(class)]);
        proven(pair).map_err(|source| Unfit::NotTogether {
            first: first.device().name().to_owned(),
            other: other.device().name().to_owned(),
            source: Box::new(source),
        })?;
        other.trim();
    }
    Ok(gpus)
}

/// What it means that GPUs which work as one are of different kinds, for people; none where they are alike.
pub fn unlike(gpus: &[&Gpu]) -> Option<String> {
    let [first, others @ ..] = gpus else { return None };
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    if others.iter().any(|gpu| gpu.capability != first.capability || gpu.name != first.name) {
        return Some(
            "they are of different kinds: the bits of the exact class are the same, the slowest sets the pace, and tensor \
             cores of different generations round differently, as those of two members do"
                .to_owned(),
        );
    }
    let least = gpus.iter().map(|gpu| gpu.memory).min()?;
    // what a display takes of one is no difference
    let less = gpus.iter().any(|gpu| gpu.memory / 16 > least / 15);
    less.then(|| {
        format!("their memory differs: a model has to fit into the smallest, which has {:.1} GiB", gib(least))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(name: &str, capability: (u32, u32), gib: u64) -> Gpu {
        Gpu { ordinal: 0, name: name.to_owned(), capability, memory: gib << 30, multiprocessors: 80 }
    }

    #[test]
    fn what_differs_is_said() {
        let (a, b) = (gpu("A", (8, 9), 24), gpu("B", (9, 0), 80));
        let same = gpu("A", (8, 9), 24);
        let smaller = gpu("A", (8, 9), 12);
        assert_eq!(unlike(&[]), None);
        assert_eq!(unlike(&[&a]), None);
        assert_eq!(unlike(&[&a, &same]), None);
        assert!(unlike(&[&a, &same, &b]).unwrap().contains("different kinds"));
        assert!(unlike(&[&a, &smaller]).unwrap().contains("12.0 GiB"));
    }
}
