//! Which device trains: what `--device` takes, and what becomes of it on this machine.

use std::{fmt, str::FromStr};

use talkoot_trainer::{
    contribution::{CodecSettings, ErrorFeedback, Layout, Origin, encode},
    measure::{GRADIENTS, WEIGHTS, bits},
    model::{Keep, ModelError},
    plan::{OnHost, SLICE_WORDS},
};

use crate::{
    Cuda,
    codec::{ContributionError, encode_from_host},
    device::{Device, DeviceError, Driver, Missing, survey},
    opened::Opened,
};

/// What the user asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Choice {
    /// A GPU where one can be used, otherwise the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The GPU of this number, counted from 0.
    Cuda(usize),
}

/// A text that is no [`Choice`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no device: choose auto, cpu, cuda, or cuda:N for GPU N")]
pub struct NoChoice {
    /// What was given.
    pub text: String,
}

impl FromStr for Choice {
    type Err = NoChoice;

    fn from_str(text: &str) -> Result<Self, NoChoice> {
        let number = text.strip_prefix("cuda:").and_then(|number| number.parse().ok());
        match (text, number) {
            ("auto", _) => Ok(Self::Auto),
            ("cpu", _) => Ok(Self::Cpu),
            ("cuda", _) => Ok(Self::Cuda(0)),
            (_, Some(number)) => Ok(Self::Cuda(number)),
            _ => Err(NoChoice { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

/// Why a GPU does not train.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// It is not there, or too old.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// It failed when it was tried.
    #[error("{name} failed when it was tried: {source}")]
    Failed {
        /// The GPU.
        name: String,
        /// How.
        source: ModelError,
    },
    /// It encodes other contributions than the processor, so that they would not be accepted.
    #[error("{name} encodes contributions in other bytes than the processor: please report this")]
    OtherBytes {
        /// The GPU.
        name: String,
    },
    /// It failed when it was to encode a contribution.
    #[error("{name} failed when it was to encode a contribution: {source}")]
    NoContribution {
        /// The GPU.
        name: String,
        /// How.
        source: ContributionError,
    },
    /// The memory that it was to give at once is not free.
    #[error("{name}: {source}: lower --device-memory, or end what else uses the GPU")]
    NoRoom {
        /// The GPU.
        name: String,
        /// What it says.
        source: DeviceError,
    },
    /// Its bits are not those of the exact class, so its work would not be accepted.
    #[error(
        "{name} computes other bits than the exact class (gradients {gradients}, weights {weights}): please report this"
    )]
    OtherBits {
        /// The GPU.
        name: String,
        /// Hash of the gradients.
        gradients: String,
        /// Hash of the weights.
        weights: String,
    },
}

/// A device that has shown the two hashes of the exact class, as `talkoot bench bits` does, and that it encodes a contribution
/// as the processor does. Whoever trains on it can rely on being accepted; it takes seconds.
///
/// # Errors
///
/// [`Unfit`] when the device fails, or its hashes or bytes are others.
pub fn proven<D: Device>(cuda: Cuda<D>) -> Result<Cuda<D>, Unfit> {
    let name = cuda.device().name().to_owned();
    let found =
        bits(&cuda, &name, Keep::Inputs).map_err(|source| Unfit::Failed { name: name.clone(), source })?;
    if found.gradients != GRADIENTS || found.weights != WEIGHTS {
        return Err(Unfit::OtherBits { name, gradients: found.gradients, weights: found.weights });
    }
    match encodes_alike(&cuda) {
        Ok(true) => {}
        Ok(false) => return Err(Unfit::OtherBytes { name }),
        Err(source) => return Err(Unfit::NoContribution { name, source }),
    }
    cuda.trim();
    Ok(cuda)
}

/// Whether two rounds of some numbers, large and small, become the same bytes and the same feedback as on the processor.
fn encodes_alike<D: Device>(cuda: &Cuda<D>) -> Result<bool, ContributionError> {
    const LENGTHS: [usize; 3] = [9000, 1, 700];
    let entries = LENGTHS.iter().enumerate().map(|(at, &len)| (format!("tensor {at}"), len as u64)).collect();
    let layout = Layout::new(entries).expect("three names in order");
    let origin = Origin { round: 0, member: [0; 32], steps: 1, tokens: 1 };
    let settings = CodecSettings::default();
    let (mut theirs, mut ours) = (ErrorFeedback::zero(&layout), ErrorFeedback::zero(&layout));
    let mut state = 1u32;
    let mut number = || {
        // Knuth's generator of 32 bits: any numbers do
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let x = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
        x * x * x
    };
    for _ in 0..2 {
        let delta = LENGTHS.map(|len| (0..len).map(|_| number()).collect::<Vec<f32>>());
        let delta = delta.each_ref().map(Vec::as_slice);
        let found = encode_from_host(cuda, &settings, &layout, &origin, &delta, None, &mut ours)?;
        if found != encode(&settings, &layout, &origin, &delta, &mut theirs)? {
            return Ok(false);
        }
    }
    Ok(ours.to_bytes() == theirs.to_bytes())
}

/// The GPU that a choice comes to; `None` for the processor. `Auto` takes the first GPU that can be used, and says in `why`
/// what spoke against one.
///
/// # Errors
///
/// [`Missing`] when a GPU was asked for by name and is not there, or too old.
pub fn find(choice: Choice, why: &mut Option<Unfit>) -> Result<Option<Driver>, Missing> {
    match choice {
        Choice::Cpu => Ok(None),
        Choice::Cuda(number) => Driver::open(number).map(Some),
        Choice::Auto => Ok(first_usable().map_err(|missing| *why = Some(missing.into())).ok()),
    }
}

/// What a GPU's memory is used for, and how.
#[derive(Debug, Clone, Copy, Default)]
pub struct Room {
    /// Bytes that are taken at once; memory is asked for as work goes without it.
    pub slab: Option<usize>,
    /// What rests in the host's memory.
    pub on_host: OnHost,
}

impl Room {
    /// A device whose memory is used so.
    ///
    /// # Errors
    ///
    /// [`DeviceError`] when it has not so much of it.
    pub fn on<D: Device>(self, device: D) -> Result<Cuda<Opened<D>>, DeviceError> {
        Cuda::resting(Opened::new(device, self.slab)?, self.on_host, SLICE_WORDS)
    }
}

/// The same, and the GPU is [`proven`] with its memory used as `room` says.
///
/// # Errors
///
/// [`Unfit`] when a GPU was asked for by name and cannot be used.
pub fn open(
    choice: Choice,
    room: Room,
    why: &mut Option<Unfit>,
) -> Result<Option<Cuda<Opened<Driver>>>, Unfit> {
    let Some(driver) = find(choice, why)? else { return Ok(None) };
    let name = driver.name().to_owned();
    let no_room = |source| Unfit::NoRoom { name, source };
    match room.on(driver).map_err(no_room).and_then(proven) {
        Err(unfit) if choice == Choice::Auto => {
            *why = Some(unfit);
            Ok(None)
        }
        done => done.map(Some),
    }
}

fn first_usable() -> Result<Driver, Missing> {
    let gpus = survey()?.gpus;
    let usable = gpus.iter().position(|gpu| gpu.usable().is_ok());
    // where none can be used, the first one says why
    Driver::open(usable.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_written_as_they_are_read() {
        for (text, choice) in [
            ("auto", Choice::Auto),
            ("cpu", Choice::Cpu),
            ("cuda", Choice::Cuda(0)),
            ("cuda:3", Choice::Cuda(3)),
        ] {
            assert_eq!(text.parse(), Ok(choice));
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "cuda0", "CPU"] {
            assert!(text.parse::<Choice>().unwrap_err().to_string().contains("choose auto, cpu"), "{text}");
        }
    }

    #[test]
    fn a_machine_without_a_driver_trains_on_its_processor_and_says_what_is_missing() {
        if survey().is_ok() {
            eprintln!("SKIPPED: this machine has an NVIDIA driver");
            return;
        }
        let mut why = None;
        assert!(open(Choice::Auto, Room::default(), &mut why).unwrap().is_none());
        let auto = why.unwrap().to_string();
        assert!(auto.contains("driver"), "{auto}");
        let asked = open(Choice::Cuda(0), Room::default(), &mut None).unwrap_err().to_string();
        assert_eq!(asked, auto);
        assert!(open(Choice::Cpu, Room::default(), &mut None).unwrap().is_none());
    }
}
