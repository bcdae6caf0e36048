//! A member's whole training state between two inner steps, as canonical bytes, and the digest that names it in a trace.
//!
//! ```text
//! "TKSNAPv1" | digest of the layout 32 | step of the stage LE64 | AdamW's steps LE64
//! then for every trained tensor, in the layout's order:  weights | first moments | second moments     all f32, little-endian
//! ```
//! The digest is the BLAKE3 of these bytes. BLAKE3 is a tree, so that any 16 KiB of a state can be proven against its digest,
//! and a state that is handed on is a blob like any other, named by the digest that the trace has. What is frozen is not in it:
//! that is the round's start state, which the ledger names. A parameter without moments, as AdamW has not seen a gradient of
//! it, has zeros; going on from those gives the same bits. Moments that are held in eight bits stand here as the numbers that
//! they mean, which packs to the same eight bits again.

use talkoot_protocol::digest::Digest;

use crate::{
    adamw::AdamW,
    backend::{Backend, BackendError},
    contribution::Layout,
    model::Model,
    moments::{Moments, eight_bit::Side},
    state::State,
};

const MAGIC: &[u8; 8] = b"TKSNAPv1";

/// Floats that are turned into bytes at a time: 256 KiB of them, which stay in a cache.
const PART: usize = 1 << 16;

/// A training state, on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Digest of the layout that it belongs to.
    layout: Digest,
    /// Inner steps of the stage before it, over all rounds: where the learning rate stands.
    stage_step: u64,
    /// Steps that the moments have seen.
    moment_steps: u64,
    /// Weights, first and second moments of every trained tensor, in the layout's order.
    tensors: Vec<[Vec<f32>; 3]>,
}

/// Why bytes are no snapshot of a layout, or a snapshot is none of a state.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The length is not that of the layout's snapshots.
    #[error("a training state of this layout has {expected} bytes, got {got}")]
    Length {
        /// Bytes for the layout.
        expected: u64,
        /// Bytes given.
        got: u64,
    },
    /// The first bytes are not those of a snapshot, version 1.
    #[error("not a training state of version 1: it starts with {got:02x?}")]
    Magic {
        /// The first eight bytes.
        got: [u8; 8],
    },
    /// It belongs to another layout.
    #[error("the training state belongs to layout {got}, expected {expected}")]
    Layout {
        /// Digest of the layout asked for.
        expected: Digest,
        /// Digest found.
        got: Digest,
    },
    /// A number that no training leaves: an infinity, a NaN, or a negative second moment.
    #[error(
        "tensor {tensor}, element {element}: {value:e} stands among its {part}, which training never leaves"
    )]
    Value {
        /// Which tensor of the layout.
        tensor: usize,
        /// `weights`, `first moments` or `second moments`.
        part: &'static str,
        /// Which element.
        element: usize,
        /// The value.
        value: f32,
    },
    /// The state that it is to be put into lacks a tensor, or has it in another length.
    #[error("the start state has no tensor `{name}` of {elements} elements")]
    Tensor {
        /// Name of the tensor.
        name: String,
        /// Elements in the snapshot.
        elements: usize,
    },
}

/// What a snapshot is taken of.
#[derive(Debug)]
pub struct Moment<'a, 'b, B: Backend> {
    /// The trained tensors.
    pub layout: &'a Layout,
    /// Inner steps of the stage so far, over all rounds.
    pub stage_step: u64,
    /// The weights.
    pub model: &'a Model<'b, B>,
    /// The moments.
    pub optimizer: &'a AdamW<B>,
}

impl<B: Backend> Moment<'_, '_, B> {
    /// The digest of [`Snapshot::to_bytes`], without making them: one tensor at a time is copied to the host.
    ///
    /// # Errors
    ///
    /// [`BackendError`] when the device is gone.
    pub fn digest(&self) -> Result<Digest, BackendError> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&header(self.layout.digest(), self.stage_step, self.optimizer.steps()));
        let mut bytes: Vec<[u8; 4]> = Vec::with_capacity(PART);
        self.visit(|values| {
            for part in values.chunks(PART) {
                bytes.clear();
                bytes.extend(part.iter().map(|value| value.to_le_bytes()));
                hasher.update(bytes.as_flattened());
            }
        })?;
        Ok(Digest::from_bytes(*hasher.finalize().as_bytes()))
    }

    /// Weights, first moments, second moments, of each tensor in order.
    fn visit(&self, mut part: impl FnMut(&[f32])) -> Result<(), BackendError> {
        let backend = self.model.backend();
        for (name, elements) in self.layout.tensors() {
            part(&backend.download(self.model.parameter(name))?);
            let elements = *elements as usize;
            for side in [Side::First, Side::Second] {
                let moment = self.optimizer.moment(backend, name, elements, side)?;
                part(&moment.unwrap_or_else(|| vec![0.0; elements]));
            }
        }
        Ok(())
    }
}

fn header(layout: Digest, stage_step: u64, moment_steps: u64) -> [u8; Snapshot::HEADER_BYTES] {
    let mut header = [0; Snapshot::HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..40].copy_from_slice(layout.as_bytes());
    header[40..48].copy_from_slice(&stage_step.to_le_bytes());
    header[48..].copy_from_slice(&moment_steps.to_le_bytes());
    header
}

impl Snapshot {
    /// Bytes before the values.
    pub const HEADER_BYTES: usize = 56;

    /// What the parts of a tensor are called.
    const PARTS: [&'static str; 3] = ["weights", "first moments", "second moments"];

    /// The snapshot of `state` with `moments`, those of tensors that have none being zero.
    ///
    /// # Errors
    ///
    /// [`SnapshotError::Tensor`] when the state or the moments don't fit the layout.
    pub fn new(
        layout: &Layout,
        stage_step: u64,
        state: &State,
        moments: &Moments,
    ) -> Result<Self, SnapshotError> {
        let tensors = layout.tensors().iter().map(|(name, elements)| {
            let elements = *elements as usize;
            let weights = state.tensors.get(name).map(|tensor| tensor.values.clone()).unwrap_or_default();
            let (first, second) = match moments.tensors.get(name) {
                Some((first, second)) => (first.clone(), second.clone()),
                None => (vec![0.0; elements], vec![0.0; elements]),
            };
            let parts = [weights, first, second];
            if parts.iter().any(|part| part.len() != elements) {
                return Err(SnapshotError::Tensor { name: name.clone(), elements });
            }
            Ok(parts)
        });
        Ok(Self {
            layout: layout.digest(),
            stage_step,
            moment_steps: moments.steps,
            tensors: tensors.collect::<Result<_, _>>()?,
        })
    }

    /// Inner steps of the stage before it, over all rounds.
    pub const fn stage_step(&self) -> u64 {
        self.stage_step
    }

    /// Length of the canonical bytes of a layout's snapshots.
    pub fn bytes_of(layout: &Layout) -> u64 {
        Self::HEADER_BYTES as u64 + 12 * layout.elements()
    }

    /// The canonical bytes: see the module.
    pub fn to_bytes(&self) -> Vec<u8> {
        let values: usize = self.tensors.iter().flatten().map(Vec::len).sum();
        let mut bytes = Vec::with_capacity(Self::HEADER_BYTES + 4 * values);
        bytes.extend_from_slice(&header(self.layout, self.stage_step, self.moment_steps));
        for part in self.tensors.iter().flatten() {
            bytes.extend(part.iter().flat_map(|value| value.to_le_bytes()));
        }
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote; the length is compared before anything is allocated.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`] when the bytes are no snapshot of `layout`.
    pub fn from_bytes(bytes: &[u8], layout: &Layout) -> Result<Self, SnapshotError> {
        let (expected, got) = (Self::bytes_of(layout), bytes.len() as u64);
        if got != expected {
            return Err(SnapshotError::Length { expected, got });
        }
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            word
        };
        if word(0) != *MAGIC {
            return Err(SnapshotError::Magic { got: word(0) });
        }
        let mut named = [0; 32];
        named.copy_from_slice(&bytes[8..40]);
        let (named, expected) = (Digest::from_bytes(named), layout.digest());
        if named != expected {
            return Err(SnapshotError::Layout { expected, got: named });
        }
        let mut rest = &bytes[Self::HEADER_BYTES..];
        let mut tensors = Vec::with_capacity(layout.tensors().len());
        for (tensor, (_, elements)) in layout.tensors().iter().enumerate() {
            let mut parts: [Vec<f32>; 3] = Default::default();
            for ((values, part), second) in parts.iter_mut().zip(Self::PARTS).zip([false, false, true]) {
                let (own, others) = rest.split_at(4 * *elements as usize);
                (*values, rest) =
                    (own.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect(), others);
                let wrong = |value: &f32| !value.is_finite() || (second && value.is_sign_negative());
                if let Some(element) = values.iter().position(wrong) {
                    return Err(SnapshotError::Value { tensor, part, element, value: values[element] });
                }
            }
            tensors.push(parts);
        }
        Ok(Self {
            layout: named,
            stage_step: u64::from_le_bytes(word(40)),
            moment_steps: u64::from_le_bytes(word(48)),
            tensors,
        })
    }

    /// What inner steps go on from: `start` with the trained tensors as they are here, and the moments.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`] when `start` or `layout` is of another model or stage.
    pub fn resume(&self, layout: &Layout, start: &State) -> Result<(State, Moments), SnapshotError> {
        if self.layout != layout.digest() {
            return Err(SnapshotError::Layout { expected: layout.digest(), got: self.layout });
        }
        let mut state = start.clone();
        let mut moments = Moments { steps: self.moment_steps, ..Moments::default() };
        for ((name, _), [weights, first, second]) in layout.tensors().iter().zip(&self.tensors) {
            match state.tensors.get_mut(name) {
                Some(tensor) if tensor.values.len() == weights.len() => tensor.values.clone_from(weights),
                _ => return Err(SnapshotError::Tensor { name: name.clone(), elements: weights.len() }),
            }
            moments.tensors.insert(name.clone(), (first.clone(), second.clone()));
        }
        Ok((state, moments))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Tensor32;

    fn layout() -> Layout {
        Layout::new(vec![("a".to_owned(), 3), ("b".to_owned(), 2)]).unwrap()
    }

    fn state() -> State {
        let tensor = |values: &[f32]| Tensor32 { shape: vec![values.len()], values: values.to_vec() };
        let tensors =
            [("a", tensor(&[1.0, -2.0, 0.0])), ("b", tensor(&[4.0, 5.0])), ("frozen", tensor(&[6.0]))];
        State { tensors: tensors.map(|(name, tensor)| (name.to_owned(), tensor)).into_iter().collect() }
    }

    fn snapshot() -> Snapshot {
        let moments = (vec![0.5, -0.5, 0.0], vec![0.25, 0.25, 0.0]);
        let moments = Moments { steps: 3, tensors: [("a".to_owned(), moments)].into_iter().collect() };
        Snapshot::new(&layout(), 7, &state(), &moments).unwrap()
    }

    #[test]
    fn bytes_come_back_and_a_state_goes_on_from_them() {
        let bytes = snapshot().to_bytes();
        assert_eq!(bytes.len() as u64, Snapshot::bytes_of(&layout()));
        let back = Snapshot::from_bytes(&bytes, &layout()).unwrap();
        assert_eq!(back, snapshot());
        let mut start = state();
        start.tensors.get_mut("a").unwrap().values = vec![9.0; 3];
        let (resumed, moments) = back.resume(&layout(), &start).unwrap();
        assert_eq!(resumed, state(), "what is frozen comes from the start");
        assert_eq!((moments.steps, moments.tensors["a"].1[0], moments.tensors["b"].0.len()), (3, 0.25, 2));
    }

    #[test]
    fn each_way_of_being_none_is_named() {
        let bytes = snapshot().to_bytes();
        let with = |at: usize, new: &[u8]| {
            let mut bytes = bytes.clone();
            bytes[at..at + new.len()].copy_from_slice(new);
            Snapshot::from_bytes(&bytes, &layout()).unwrap_err()
        };
        let short = Snapshot::from_bytes(&bytes[1..], &layout()).unwrap_err();
        assert!(matches!(short, SnapshotError::Length { expected: 116, got: 115 }), "{short}");
        assert!(matches!(with(7, b"2"), SnapshotError::Magic { .. }));
        assert!(matches!(with(8, b"another"), SnapshotError::Layout { .. }));
        let nan = with(56, &f32::NAN.to_le_bytes());
        assert!(matches!(nan, SnapshotError::Value { tensor: 0, part: "weights", element: 0, .. }), "{nan}");
        let negative = with(56 + 24, &(-1f32).to_le_bytes());
        assert!(
            matches!(negative, SnapshotError::Value { tensor: 0, part: "second moments", .. }),
            "{negative}"
        );
        let other = Layout::new(vec![("a".to_owned(), 3), ("c".to_owned(), 2)]).unwrap();
        assert!(matches!(Snapshot::from_bytes(&bytes, &other), Err(SnapshotError::Layout { .. })));
        let mut start = state();
        start.tensors.remove("b");
        assert!(matches!(
            snapshot().resume(&layout(), &start),
            Err(SnapshotError::Tensor { elements: 2, .. })
        ));
    }
}
