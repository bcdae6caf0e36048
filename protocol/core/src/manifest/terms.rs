//! What people write: the terms of a run, field by field.

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};
use talkoot_ledger::Policy;

use crate::{identity::MemberId, real::Real};

/// The terms of a run as TOML holds them. Every field is required unless it says otherwise: a rule that
/// everybody is judged by should stand where everybody reads it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[serde(deny_unknown_fields)]
#[cbor(map)]
pub struct Terms {
    /// Version of the protocol; 1.
    #[n(0)]
    pub protocol: u32,
    /// What people call the run: 1 to 64 characters of `a-z`, `0-9` and `-`.
    #[n(1)]
    pub name: String,
    /// Seed of everything that is drawn: data order, assignment.
    #[n(2)]
    pub seed: u64,
    /// The stages, in order.
    #[n(3)]
    pub stages: Vec<Stage>,
    /// How a pseudo-gradient becomes a contribution.
    #[n(4)]
    pub contribution: Contribution,
    /// How contributions become the next state.
    #[n(5)]
    pub aggregation: Aggregation,
    /// How contributions are checked.
    #[n(6)]
    pub verification: Verification,
    /// Who may take part.
    #[n(7)]
    pub membership: Membership,
    /// How long each phase of a round may take.
    #[n(8)]
    pub deadlines: Deadlines,
    /// Which witnesses have to cosign the ledger's checkpoints before anybody follows them: a `tlog-policy` text
    /// without log lines. May be absent; then the operator's word about the order of entries is not witnessed.
    #[n(9)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness_policy: Option<String>,
}

impl Terms {
    /// The witness policy; the one that demands nothing where there is none, or none that can be read.
    pub fn policy(&self) -> Policy {
        self.witness_policy.as_deref().and_then(|text| text.parse().ok()).unwrap_or_else(Policy::none)
    }
}

/// One stage of training: which modules learn, from what, for how long.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[serde(deny_unknown_fields)]
#[cbor(map)]
pub struct Stage {
    /// Name of the stage: alignment, mid-training, instruct.
    #[n(0)]
    pub name: String,
    /// The modules that learn; the others are frozen.
    #[n(1)]
    pub trainable: Vec<ModuleGroup>,
    /// Rounds that have to end with at least one contribution.
    #[n(2)]
    pub rounds: u32,
    /// H: greatest number of inner steps that a member takes in a round.
    #[n(3)]
    pub inner_steps: u32,
    /// Packs in the batch of one inner step.
    #[n(4)]
    pub packs_per_step: u32,
    /// Greatest length of a pack in tokens.
    #[n(5)]
    pub sequence_tokens: u32,
    /// How the loss of a step is normalised over its packs.
    #[n(6)]
    pub normalisation: Normalisation,
    /// The inner optimizer.
    #[n(7)]
    pub optimizer: Optimizer,
}

/// A part of the model that is trained or frozen as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
#[cbor(index_only)]
pub enum ModuleGroup {
    /// The vision tower, class token included.
    #[n(0)]
    Vision,
    /// The 2x2 patch merger.
    #[n(1)]
    Merger,
    /// The language model, embedding and head included.
    #[n(2)]
    Language,
}

/// How the loss of an inner step is averaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
#[cbor(index_only)]
pub enum Normalisation {
    /// Mean over all learned tokens of the step.
    #[n(0)]
    Token,
    /// Mean over the step's packs of each pack's mean, as in the recipe; packs with nothing to learn are left out.
    #[n(1)]
    Pack,
}

/// `AdamW` with linear warmup and cosine decay over the whole stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[serde(deny_unknown_fields)]
#[cbor(map)]
pub struct Optimizer {
    /// Learning rate at the end of the warmup.
    #[n(0)]
    pub peak_learning_rate: Real,
    /// Learning rate at the end of the stage.
    #[n(1)]
    pub final_learning_rate: Real,
    /// Inner steps of linear warmup at the start of the stage.
    #[n(2)]
    pub warmup_steps: u32,
    /// Decoupled weight decay of tensors with two dimensions or more.
    #[n(3)]
    pub weight_decay: Real,
    /// Decay of the first moment.
    #[n(4)]
    pub beta1: Real,
    /// Decay of the second moment.
    #[n(5)]
    pub beta2: Real,
    /// Added to the root of the second moment.
    #[n(6)]
    pub epsilon: Real,
    /// Greatest global norm of a gradient.
    #[n(7)]
    pub clip_norm: Real,
    /// How the moments are held between steps; as they are when left out.
    #[n(8)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moments: Option<MomentFormat>,
}

/// How the moments of the inner optimizer are held between steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[cbor(index_only)]
pub enum MomentFormat {
    /// As they are, 4 bytes a number.
    #[serde(rename = "f32")]
    #[n(0)]
    F32,
    /// Rounded to one of 255 numbers for each block of 256, a byte a number: six bytes less for every trained parameter.
    #[serde(rename = "8bit")]
    #[n(1)]
    EightBit,
}

/// The contribution codec (`SparseLoCo`, arXiv 2508.15706).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[serde(deny_unknown_fields)]
#[cbor(map)]
pub struct Contribution {
    /// Parameters of a tensor that are compressed together.
    #[n(0)]
    pub chunk: u32,
    /// Entries kept of each full chunk.
    #[n(1)]
    pub k: u32,
    /// Bits of a kept value: 1, 2, 4 or 8.
    #[n(2)]
    pub bits: u32,
    /// Share of the error-feedback buffer that is carried into the next round.
    #[n(3)]
    pub error_feedback: Real,
    /// What the inner optimizer's moments start a round from.
    #[n(4)]
    pub inner_state: InnerState,
}

/// What the moments of the inner optimizer start a round from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
#[cbor(index_only)]
pub enum InnerState {
    /// From zero, every round: no private past to believe.
    #[n(0)]
    Fresh,
    /// From what the stage's last round with a contribution published: its aggregate, and the second moments in brief
    /// that come with each contribution. No private past either, and nearly as good as one.
    #[n(1)]
    Public,
}

/// The outer step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[serde(deny_unknown_fields)]
#[cbor(map)]
pub struct Aggregation {
    /// How the decoded contributions are combined.
    #[n(0)]
    pub rule: AggregationRule,
    /// Factor of the combined pseudo-gradient when it is subtracted from the weights.
    #[n(1)]
    pub outer_learning_rate: Real,
    /// For `centered-clip`: how far a contribution may lie from the centre, as a multiple of the median norm.
    #[n(2)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<Real>,
    /// For `trimmed`: the share of an entry's values that is left out at either end.
    #[n(3)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trim: Option<Real>,
    /// What a contribution has to be like to be combined at all, beyond being well-formed.
    #[n(4)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gates: Option<Gates>,
}

/// Bounds within which a contribution is plausible. They keep out what no check has drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[serde(deny_unknown_fields)]
#[cbor(map)]
pub struct Gates {
    /// Smallest norm, as a multiple of the median norm of the round's contributions.
    #[n(0)]
    pub norm_low: Real,
    /// Largest norm, as a multiple of that median.
    #[n(1)]
    pub norm_high: Real,
    /// Greatest share of its entries that a contribution may have in common with one before it in the
    /// order of the seal.
    #[n(2)]
    pub overlap: Real,
}

/// How decoded contributions are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "kebab-case")]
#[cbor(index_only)]
pub enum AggregationRule {
    /// Mean weighted by the tokens trained on.
    #[n(0)]
    Mean,
    /// The same, of contributions that are shortened towards their common centre (Karimireddy, He and Jaggi, arXiv
    /// 2012.10333): a few that lie far off move it little.
    #[n(1)]
    CenteredClip,
    /// Entry by entry, the mean of the values that are neither among the smallest nor among the largest (Yin et al., arXiv
    /// 1803.01498); what a member does not send counts as zero.
    #[n(2)]
    Trimmed,
}

/// How contributions are checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[serde(deny_unknown_fields)]
#[cbor(map)]
pub struct Verification {
    /// What a replay has to agree in.
    #[n(0)]
    pub class: VerificationClass,
    /// Passed checks in a row below which every contribution of a member is checked. After it a contribution is
    /// checked with probability `max(rate, probation / streak)`.
    #[n(1)]
    pub probation: u32,
    /// Floor of the probability that one contribution is checked by one verifier.
    #[n(2)]
    pub rate: Real,
    /// Verifiers that have to be present before a round opens.
    #[n(3)]
    pub min_verifiers: u32,
    /// Verifiers that have to find the same of an accused contribution before anybody is excluded for it; one when left
    /// out. As soon as one says that it fails, all others check it, too.
    #[n(4)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmations: Option<u32>,
    /// Inner steps between two digests of the whole training state in a member's trace; 8 when left out. A stranger who
    /// settles a dispute executes at most so many steps; with 1 it is one, and every step is hashed.
    #[n(5)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest_interval: Option<u32>,
    /// For `fast`: how far a replay may be from what was committed. `talkoot verifier calibrate` measures and writes it.
    #[n(6)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<Tolerance>,
    /// Probability that a commit is a canary, a known lie by which verifiers are found that stamp everything; none are sent
    /// when left out. A canary costs its round's work.
    #[n(7)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canaries: Option<Real>,
    /// Rounds after which a trainer that was excluded may join again, with the probation of a newcomer: memory fails, and so do
    /// graphics cards. Once; a second exclusion is for good, as is any verifier's, and all are when this is left out.
    #[n(8)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reinstate_after: Option<u32>,
}

impl Verification {
    /// Inner steps between two digests of the training state where the terms say nothing: a digest reads 12 bytes a
    /// trained parameter, and hashes them on one thread, which is to be little next to eight steps.
    pub const DIGEST_INTERVAL: u32 = 8;

    /// Inner steps between two digests of the training state.
    pub fn digest_interval(&self) -> u32 {
        self.digest_interval.unwrap_or(Self::DIGEST_INTERVAL)
    }
}

/// What a replay has to agree in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
#[cbor(index_only)]
pub enum VerificationClass {
    /// The same bytes.
    #[n(0)]
    Exact,
    /// The same but for rounding: on whatever arithmetic, as near as [`Tolerance`] says.
    #[n(1)]
    Fast,
}

/// How far a replay may be from what was committed, in the class `fast`. Every number is the greatest that passes.
///
/// The pseudo-gradient that is compared is not the sparse one that was sent, where a hair's breadth decides which entries are
/// the largest, but the whole one that the contribution and its two error-feedback buffers add up to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[serde(deny_unknown_fields)]
#[cbor(map)]
pub struct Tolerance {
    /// Norm of the difference of the two pseudo-gradients, as a share of the replayed one's norm.
    #[n(0)]
    pub distance: Real,
    /// One minus the cosine between them.
    #[n(1)]
    pub angle: Real,
    /// The largest `distance` of any tensor.
    #[n(2)]
    pub tensor_distance: Real,
    /// The largest `angle` of any tensor.
    #[n(3)]
    pub tensor_angle: Real,
    /// Difference of a step's losses, in nats a token.
    #[n(4)]
    pub loss: Real,
    /// Difference of a step's gradient norms, as a share of the replayed one.
    #[n(5)]
    pub gradient_norm: Real,
    /// Difference of a row's or column's mean second moments, in doublings; only where moments are public.
    #[n(6)]
    pub moments: Real,
}

/// Who may take part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(deny_unknown_fields)]
#[cbor(map)]
pub struct Membership {
    /// Training members that have to be present before a round opens.
    #[n(0)]
    pub min_members: u32,
    /// Greatest number of identities that the run admits, verifiers included.
    #[n(1)]
    pub max_members: u32,
    /// How the inner steps of a round are shared out.
    #[n(2)]
    pub assignment: Assignment,
    /// When present, the only keys that may join.
    #[n(3)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<MemberId>>,
}

/// How the inner steps of a round are shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
#[cbor(index_only)]
pub enum Assignment {
    /// Everybody takes H steps.
    #[n(0)]
    Equal,
    /// In proportion to the speed that a member's last commit reported: a slow member gets less, not nothing.
    #[n(1)]
    Measured,
}

/// How long each phase of a round may take, in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(deny_unknown_fields)]
#[cbor(map)]
pub struct Deadlines {
    /// From the opening of a round to its seal.
    #[n(0)]
    pub training_s: u32,
    /// From the seal to the close, for reveal and verdicts.
    #[n(1)]
    pub verification_s: u32,
    /// From the close to the next opening, for members to report the next state.
    #[n(2)]
    pub outcome_s: u32,
    /// How long a member may be out of reach before nobody waits for it.
    #[n(3)]
    pub absence_s: u32,
    /// How old the log's newest checkpoint may get before members say that the log stands still; twice the phases of a round
    /// together when left out.
    #[n(4)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_age_s: Option<u32>,
}

impl Deadlines {
    /// The greatest age of the newest checkpoint of a log that goes on, in seconds.
    pub fn most_age_s(&self) -> u64 {
        let phases = [self.training_s, self.verification_s, self.outcome_s].map(u64::from);
        let rounds = phases.iter().sum::<u64>().saturating_mul(2);
        self.checkpoint_age_s.map_or(rounds, u64::from)
    }
}
