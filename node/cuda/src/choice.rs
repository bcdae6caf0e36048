//! Which devices train: what `--device` takes, and what becomes of it on this machine.

mod several;

use std::{fmt, str::FromStr};

use talkoot_trainer::{
    contribution::{CodecSettings, ErrorFeedback, Layout, Origin, encode},
    measure::{GRADIENTS, WEIGHTS, bits},
    model::{Keep, ModelError},
    plan::{OnHost, SLICE_WORDS},
};

pub use self::several::{find_all, together, unlike};
use crate::{
    Cuda,
    codec::{ContributionError, encode_from_host},
    device::{Device, DeviceError, Driver, Missing},
    opened::Opened,
};

/// What the user asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Choice {
    /// A GPU where one can be used, otherwise the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// The GPU of this number, counted from 0.
    Cuda(usize),
    /// These GPUs as one, two at least. The first moves the weights and encodes.
    Several(Vec<usize>),
    /// All GPUs that can be used, as one.
    All,
}

/// A text that is no [`Choice`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoChoice {
    /// It names no device.
    #[error(
        "{text:?} is no device: choose auto, cpu, cuda, cuda:N for GPU N, cuda:N,M for several as one, or cuda:all"
    )]
    Unknown {
        /// What was given.
        text: String,
    },
    /// A GPU would help itself.
    #[error("{text:?} names GPU {number} twice: name each once")]
    Twice {
        /// What was given.
        text: String,
        /// The GPU.
        number: usize,
    },
}

impl FromStr for Choice {
    type Err = NoChoice;

    fn from_str(text: &str) -> Result<Self, NoChoice> {
        let unknown = || NoChoice::Unknown { text: text.to_owned() };
        match text {
            "auto" => return Ok(Self::Auto),
            "cpu" => return Ok(Self::Cpu),
            "cuda" => return Ok(Self::Cuda(0)),
            "cuda:all" => return Ok(Self::All),
            _ => {}
        }
        let numbers = text.strip_prefix("cuda:").ok_or_else(unknown)?.split(',');
        let numbers = numbers.map(|number| number.trim().parse().map_err(|_| unknown()));
        let numbers: Vec<usize> = numbers.collect::<Result<_, _>>()?;
        for (at, &number) in numbers.iter().enumerate() {
            if numbers[..at].contains(&number) {
                return Err(NoChoice::Twice { text: text.to_owned(), number });
            }
        }
        Ok(if let [one] = numbers[..] { Self::Cuda(one) } else { Self::Several(numbers) })
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Several(numbers) => {
                let numbers: Vec<String> = numbers.iter().map(usize::to_string).collect();
                write!(f, "cuda:{}", numbers.join(","))
            }
            Self::All => f.write_str("cuda:all"),
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
    /// Each was well alone, and with another it was not.
    #[error("{first} and {other} do not work as one: {source}: name one of them alone")]
    NotTogether {
        /// The GPU that moves the weights.
        first: String,
        /// The one that helps it.
        other: String,
        /// What went wrong.
        source: Box<Self>,
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

/// The one GPU that a choice comes to; `None` for the processor. `Auto` takes the first GPU that can be used, and says in
/// `why` what spoke against one.
///
/// # Errors
///
/// [`Missing`] when a GPU was asked for by name and is not there, or too old, or several were asked for.
pub fn find(choice: &Choice, why: &mut Option<Unfit>) -> Result<Option<Driver>, Missing> {
    match choice {
        Choice::Several(_) | Choice::All => Err(Missing::OneOnly { asked: choice.to_string() }),
        one => Ok(find_all(one, why)?.pop()),
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

/// The GPUs that a choice comes to, each [`proven`] with its memory used as `room` says, and all [`together`]; none for the
/// processor. `Auto` and `All` leave out what cannot be used, and say in `why` what spoke against it.
///
/// # Errors
///
/// [`Unfit`] when a GPU was asked for by name and cannot be used.
pub fn open(
    choice: &Choice,
    room: Room,
    why: &mut Option<Unfit>,
) -> Result<Vec<Cuda<Opened<Driver>>>, Unfit> {
    let lenient = matches!(choice, Choice::Auto | Choice::All);
    let mut gpus = Vec::new();
    for driver in find_all(choice, why)? {
        let name = driver.name().to_owned();
        match room.on(driver).map_err(|source| Unfit::NoRoom { name, source }).and_then(proven) {
            Ok(gpu) => gpus.push(gpu),
            Err(unfit) if lenient => *why = Some(unfit),
            Err(unfit) => return Err(unfit),
        }
    }
    if gpus.is_empty() && *choice == Choice::All {
        // somebody who asks for all wants one at least
        return why.take().map_or(Ok(gpus), Err);
    }
    together(gpus)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::survey;

    #[test]
    fn choices_are_written_as_they_are_read() {
        for (text, choice) in [
            ("auto", Choice::Auto),
            ("cpu", Choice::Cpu),
            ("cuda", Choice::Cuda(0)),
            ("cuda:3", Choice::Cuda(3)),
            ("cuda:0,1", Choice::Several(vec![0, 1])),
            ("cuda:2, 0,1", Choice::Several(vec![2, 0, 1])),
            ("cuda:all", Choice::All),
        ] {
            assert_eq!(choice.to_string().parse().as_ref(), Ok(&choice));
            assert_eq!(text.parse(), Ok(choice));
        }
        for text in
            ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "cuda0", "CPU", "cuda:0,", "cuda:,", "cuda:0-3", "0,1"]
        {
            assert!(text.parse::<Choice>().unwrap_err().to_string().contains("choose auto, cpu"), "{text}");
        }
        let twice = "cuda:0,2,2".parse::<Choice>().unwrap_err().to_string();
        assert!(twice.contains("names GPU 2 twice"), "{twice}");
    }

    #[test]
    fn a_machine_without_a_driver_trains_on_its_processor_and_says_what_is_missing() {
        if survey().is_ok() {
            eprintln!("SKIPPED: this machine has an NVIDIA driver");
            return;
        }
        let mut why = None;
        assert!(open(&Choice::Auto, Room::default(), &mut why).unwrap().is_empty());
        let auto = why.unwrap().to_string();
        assert!(auto.contains("driver"), "{auto}");
        for asked in [Choice::Cuda(0), Choice::Several(vec![0, 1]), Choice::All] {
            let refused = open(&asked, Room::default(), &mut None).unwrap_err().to_string();
            assert_eq!(refused, auto);
        }
        assert!(open(&Choice::Cpu, Room::default(), &mut None).unwrap().is_empty());
        let one = find(&Choice::Several(vec![0, 1]), &mut None).unwrap_err().to_string();
        assert!(one.contains("cuda:0,1") && one.contains("one GPU"), "{one}");
    }
}
