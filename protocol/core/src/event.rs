//! What is recorded: the events of a run, and who may say them.
//!
//! Everything is an integer, a hash or a key. A loss is carried in millionths of a nat, a time in milliseconds,
//! so that no entry depends on how floats are printed. No field holds free text about a person or an address.

use minicbor::{Decode, Encode};

use crate::{
    challenge::DrawProof,
    digest::{BlobRef, Digest},
    identity::{Keypair, MemberId, Signature},
    manifest::{Manifest, Tolerance},
};

/// One thing that happened, as its author says it.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Event {
    /// The rules of the run; entry 0, by the operator.
    #[n(0)]
    Manifest(#[n(0)] Box<Manifest>),
    /// Somebody becomes a member, or comes back after having left.
    #[n(1)]
    Join(#[n(0)] Join),
    /// A member leaves; nobody waits for it any more.
    #[n(2)]
    Leave(#[n(0)] Leave),
    /// The operator opens a round.
    #[n(3)]
    RoundOpen(#[n(0)] RoundOpen),
    /// A member commits to what it computed, before anybody can see it.
    #[n(4)]
    Commit(#[n(0)] Commit),
    /// The operator closes the list of commits; now contributions are revealed and challenges drawn.
    #[n(5)]
    Seal(#[n(0)] Seal),
    /// A verifier shows its draw for a sealed round.
    #[n(6)]
    Challenge(#[n(0)] Challenge),
    /// A verifier says how a replay ended.
    #[n(7)]
    Verdict(#[n(0)] Verdict),
    /// The operator fixes which sealed contributions enter the next state.
    #[n(8)]
    RoundClose(#[n(0)] RoundClose),
    /// A member says which state follows from a closed round.
    #[n(9)]
    Outcome(#[n(0)] Outcome),
    /// The operator excludes a member because of a failed check.
    #[n(10)]
    Penalty(#[n(0)] Penalty),
    /// The operator ends the run.
    #[n(11)]
    End(#[n(0)] End),
    /// A member missed the seal, and keeps what it had to say for a later round.
    #[n(12)]
    Late(#[n(0)] Box<Late>),
    /// A member shows whether its sealed commit was a canary.
    #[n(13)]
    Opening(#[n(0)] Opening),
    /// A member goes on under another key; by its own or its recovery key.
    #[n(14)]
    Rotate(#[n(0)] Rotate),
    /// A member's key is worth nothing any more; by itself or by the member's recovery key.
    #[n(15)]
    Revoke(#[n(0)] Revoke),
}

impl Event {
    /// Name of the kind of event, for people and logs.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Manifest(_) => "manifest",
            Self::Join(_) => "join",
            Self::Leave(_) => "leave",
            Self::RoundOpen(_) => "round_open",
            Self::Commit(_) => "commit",
            Self::Seal(_) => "seal",
            Self::Challenge(_) => "challenge",
            Self::Verdict(_) => "verdict",
            Self::RoundClose(_) => "round_close",
            Self::Outcome(_) => "outcome",
            Self::Penalty(_) => "penalty",
            Self::End(_) => "end",
            Self::Late(_) => "late",
            Self::Opening(_) => "opening",
            Self::Rotate(_) => "rotate",
            Self::Revoke(_) => "revoke",
        }
    }
}

/// What a member does in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Role {
    /// Trains and contributes.
    #[n(0)]
    Trainer,
    /// Re-executes contributions of others.
    #[n(1)]
    Verifier,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Trainer => "trainer",
            Self::Verifier => "verifier",
        })
    }
}

/// Somebody becomes a member.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Join {
    /// What the member will do.
    #[n(0)]
    pub role: Role,
    /// Size of the log when the member signed this; an old join cannot be played again after a leave.
    #[n(1)]
    pub seen: u64,
    /// A verifier's key for its draws (vrf-r255); a trainer's, for its canaries, in runs that have some.
    #[n(2)]
    pub draw_key: Option<Digest>,
    /// A key that is kept elsewhere and can revoke or replace the member's, should that be lost or stolen.
    #[n(3)]
    pub recovery: Option<MemberId>,
}

/// A member leaves.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Leave {
    /// Size of the log when the member signed this.
    #[n(0)]
    pub seen: u64,
}

/// A member's place in a round.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Seat {
    /// Who.
    #[n(0)]
    pub member: MemberId,
    /// Inner steps that it is to take, at most H.
    #[n(1)]
    pub steps: u32,
}

/// A round opens. Which packs a seat trains on follows from the manifest and the rounds before.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct RoundOpen {
    /// Number of the round in the run, from 0.
    #[n(0)]
    pub round: u64,
    /// Place of the stage in the manifest.
    #[n(1)]
    pub stage: u32,
    /// All weights at the start.
    #[n(2)]
    pub start_state: BlobRef,
    /// The seats, by ascending member id.
    #[n(3)]
    pub seats: Vec<Seat>,
}

/// What a member computed in a round, by hash.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Commit {
    /// Number of the round.
    #[n(0)]
    pub round: u64,
    /// The state that it started from.
    #[n(1)]
    pub start_state: Digest,
    /// Hash of the packs that it trained on: [`crate::assignment::Work::digest`].
    #[n(2)]
    pub work: Digest,
    /// Inner steps taken, at most those of the seat.
    #[n(3)]
    pub steps: u32,
    /// The encoded pseudo-gradient.
    #[n(4)]
    pub contribution: BlobRef,
    /// Loss and gradient norm of every step.
    #[n(5)]
    pub trace: BlobRef,
    /// Error-feedback buffer before the round; none when it starts from zero.
    #[n(6)]
    pub feedback_in: Option<BlobRef>,
    /// Error-feedback buffer after the round.
    #[n(7)]
    pub feedback_out: BlobRef,
    /// Tokens in the packs.
    #[n(8)]
    pub tokens: u64,
    /// Loss of the first step, in millionths of a nat a token.
    #[n(9)]
    pub loss_first_micronats: u64,
    /// Loss of the last step, in millionths of a nat a token.
    #[n(10)]
    pub loss_last_micronats: u64,
    /// Time that the inner steps took, in milliseconds, as the member says.
    #[n(11)]
    pub train_ms: u64,
    /// Digest of the inner optimizer's moments after the last step, in runs that have canaries: what nobody knows who has not
    /// taken all steps. A canary's is false.
    #[n(12)]
    pub moments: Option<Digest>,
}

/// A commit that missed the seal. Nothing of it enters this round; what it would have sent goes back into the member's error
/// feedback, so that a later contribution carries it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Late {
    /// The commit as it would have been, perhaps to fewer steps than the seat has.
    #[n(0)]
    pub commit: Commit,
    /// The error-feedback buffer after giving back: `feedback_out` plus the decoded contribution.
    #[n(1)]
    pub restored: BlobRef,
}

/// The list of commits is closed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Seal {
    /// Number of the round.
    #[n(0)]
    pub round: u64,
    /// Ledger indices of all commits of the round, by ascending member id.
    #[n(1)]
    pub commits: Vec<u64>,
}

/// A verifier's draw. Which contributions it has to check follows from the proof.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Challenge {
    /// Number of the round.
    #[n(0)]
    pub round: u64,
    /// Proof of the verifiable random function over the sealed log.
    #[n(1)]
    pub proof: DrawProof,
}

/// How a replay ended.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Verdict {
    /// Number of the round.
    #[n(0)]
    pub round: u64,
    /// Ledger index of the commit that was checked.
    #[n(1)]
    pub commit: u64,
    /// What was found.
    #[n(2)]
    pub finding: Finding,
    /// How far replay and commit are apart, in the class `fast`; none when nothing could be compared.
    #[n(3)]
    pub deviation: Option<Deviation>,
}

/// How far a replay is from what was committed, in the order of the manifest's tolerance. In millionths, rounded up.
///
/// In the ledger, so that a stranger sees who is always just within.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Deviation {
    /// Norm of the difference of the pseudo-gradients, as a share of the replayed one's.
    #[n(0)]
    pub distance: u64,
    /// One minus the cosine between them.
    #[n(1)]
    pub angle: u64,
    /// The largest distance of any tensor.
    #[n(2)]
    pub tensor_distance: u64,
    /// The largest angle of any tensor.
    #[n(3)]
    pub tensor_angle: u64,
    /// The largest difference of a step's losses, of a nat a token.
    #[n(4)]
    pub loss: u64,
    /// The largest difference of a step's gradient norms, as a share of the replayed one.
    #[n(5)]
    pub gradient_norm: u64,
    /// The largest difference of a mean second moment, of a doubling.
    #[n(6)]
    pub moments: u64,
}

impl Deviation {
    /// Whether no number is above that of `tolerance`, rounded up to millionths as this one is.
    pub fn is_within(&self, tolerance: &Tolerance) -> bool {
        let Tolerance { distance, angle, tensor_distance, tensor_angle, loss, gradient_norm, moments } =
            tolerance;
        [
            (self.distance, distance),
            (self.angle, angle),
            (self.tensor_distance, tensor_distance),
            (self.tensor_angle, tensor_angle),
            (self.loss, loss),
            (self.gradient_norm, gradient_norm),
            (self.moments, moments),
        ]
        .iter()
        .all(|(got, most)| *got <= (most.get() * 1e6).ceil() as u64)
    }
}

/// What a replay found.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Finding {
    /// The replay gave the committed bytes or, in the class `fast`, what is as good as the same.
    #[n(0)]
    Pass,
    /// The replay gave something else.
    #[n(1)]
    Fail(#[n(0)] Divergence),
    /// The replay could not be made; nobody is blamed.
    #[n(2)]
    Inconclusive(#[n(0)] Obstacle),
}

/// Where a replay parted from what was committed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Divergence {
    /// What differs.
    #[n(0)]
    pub what: DivergentPart,
    /// The contribution that the verifier computed.
    #[n(1)]
    pub replayed: BlobRef,
    /// First inner step, from 0, whose loss, gradient norm or state differs; none when all committed steps agree.
    #[n(2)]
    pub first_step: Option<u32>,
    /// Loss of that step as committed, in millionths of a nat a token.
    #[n(3)]
    pub claimed_micronats: Option<u64>,
    /// Loss of that step as replayed.
    #[n(4)]
    pub replayed_micronats: Option<u64>,
    /// The verifier's own trace, which it publishes, so that anybody finds where the two part; none when nothing was
    /// executed.
    #[n(5)]
    pub trace: Option<BlobRef>,
}

/// The part of a contribution that a replay disproves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum DivergentPart {
    /// The committed trace names another loss, gradient norm or training state at some step.
    #[n(0)]
    Step,
    /// All steps agree, but the contribution is not what they lead to.
    #[n(1)]
    Contribution,
    /// The contribution agrees, but the error-feedback buffer that it leaves does not.
    #[n(2)]
    Feedback,
    /// The committed bytes are no trace, contribution or buffer at all.
    #[n(3)]
    Malformed,
    /// The member did not hand out what it had committed to.
    #[n(4)]
    Withheld,
    /// The commit tells other losses or tokens than its own trace.
    #[n(5)]
    Summary,
    /// Honest training of this seat does not end in numbers, so that nothing could have been committed.
    #[n(6)]
    Impossible,
    /// Sampled chunks of the error feedback are no encoder's work: found without a replay, and by whoever looks.
    #[n(7)]
    Codec,
    /// The contribution is not the encoding of what it and the error feedback that it leaves add up to.
    #[n(8)]
    Encoding,
    /// All steps agree within the tolerance, but the pseudo-gradient that they lead to does not.
    #[n(9)]
    Distance,
    /// All else agrees, but the moments of the inner optimizer do not: those that came with the contribution in the class
    /// `fast`, or the digest in the commit.
    #[n(10)]
    Moments,
}

/// Why a replay could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Obstacle {
    /// The start state or a shard could not be had.
    #[n(0)]
    InputsUnavailable,
}

/// Which sealed contributions enter the next state.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct RoundClose {
    /// Number of the round.
    #[n(0)]
    pub round: u64,
    /// Ledger indices of the commits that enter, in the order of the seal.
    #[n(1)]
    pub included: Vec<u64>,
    /// The other sealed commits, each with the reason, in the order of the seal.
    #[n(2)]
    pub excluded: Vec<Exclusion>,
}

/// A sealed commit that does not enter the next state.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Exclusion {
    /// Ledger index of the commit.
    #[n(0)]
    pub commit: u64,
    /// Why.
    #[n(1)]
    pub reason: ExclusionReason,
}

/// Why a sealed commit does not enter the next state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum ExclusionReason {
    /// A check failed; the ledger index of the verdict.
    #[n(0)]
    FailedCheck(#[n(0)] u64),
    /// The contribution was not revealed in time.
    #[n(1)]
    NotRevealed,
    /// It was to be a canary.
    #[n(2)]
    Canary,
    /// Its member did not show in time whether it was a canary.
    #[n(3)]
    NotOpened,
}

/// A member shows what it drew for a round: whether its commit was a canary.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Opening {
    /// Number of the round.
    #[n(0)]
    pub round: u64,
    /// Proof of the verifiable random function: [`crate::canary::CanaryDraw`].
    #[n(1)]
    pub proof: DrawProof,
}

/// The state that follows from a closed round.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Outcome {
    /// Number of the round.
    #[n(0)]
    pub round: u64,
    /// All weights after the outer step.
    #[n(1)]
    pub state: BlobRef,
}

/// A member is excluded from all further rounds.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Penalty {
    /// Who.
    #[n(0)]
    pub member: MemberId,
    /// Ledger index of the verdict that is the cause.
    #[n(1)]
    pub verdict: u64,
}

/// Signing domain of a successor's consent.
pub const SUCCESSION_DOMAIN: &str = "talkoot/succession/v1";

/// A member goes on under another key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Rotate {
    /// The key that ends.
    #[n(0)]
    pub member: MemberId,
    /// The key that the member has from now on; one that was never a member's.
    #[n(1)]
    pub successor: MemberId,
    /// A verifier's new key for its draws.
    #[n(2)]
    pub draw_key: Option<Digest>,
    /// The successor's signature over run, old and new key: nobody can be made the heir of a key that they do not have.
    #[n(3)]
    pub consent: Signature,
}

impl Rotate {
    /// What `member` says, or its recovery key, when `successor` is to follow it in `run`.
    pub fn new(run: &Digest, member: MemberId, successor: &Keypair, draw_key: Option<Digest>) -> Self {
        let consent = successor.sign(SUCCESSION_DOMAIN, &succession(run, &member, &successor.id()));
        Self { member, successor: successor.id(), draw_key, consent }
    }

    /// Whether the successor agrees.
    pub(crate) fn is_agreed(&self, run: &Digest) -> bool {
        let message = succession(run, &self.member, &self.successor);
        self.successor.verifies(SUCCESSION_DOMAIN, &message, &self.consent)
    }
}

fn succession(run: &Digest, old: &MemberId, new: &MemberId) -> Vec<u8> {
    [*run.as_bytes(), *old.as_bytes(), *new.as_bytes()].concat()
}

/// A member's key is worth nothing any more.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Revoke {
    /// The key.
    #[n(0)]
    pub member: MemberId,
}

/// The run is over.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct End {
    /// Rounds that were closed.
    #[n(0)]
    pub rounds: u64,
    /// The last state.
    #[n(1)]
    pub state: BlobRef,
}
