//! Who is checked: a draw that nobody can predict and everybody can repeat.
//!
//! A verifier evaluates a verifiable random function (vrf-r255 of C2SP, the ristretto255 profile of RFC 9381)
//! over the log as it stood when the round was sealed. The operator cannot grind the log to spare a friend,
//! because it does not hold the verifier's draw key; the verifier cannot choose, because its key was fixed when
//! it joined and there is one valid output for each key and log.

use minicbor::{Decode, Decoder, Encode, Encoder};

use crate::{
    digest::Digest,
    identity::{Keypair, MemberId},
    manifest::RunId,
};

/// Length of a proof in bytes.
pub const PROOF_BYTES: usize = 80;

/// What is drawn over: the log up to and including the seal of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedLog {
    /// The run.
    pub run: RunId,
    /// Number of the round.
    pub round: u64,
    /// Number of entries, the seal being the last.
    pub size: u64,
    /// RFC 6962 root of those entries.
    pub root: [u8; 32],
}

impl SealedLog {
    fn message(&self) -> Vec<u8> {
        let mut message = b"talkoot/challenge/v1\n".to_vec();
        message.extend_from_slice(self.run.as_bytes());
        message.extend_from_slice(&self.round.to_be_bytes());
        message.extend_from_slice(&self.size.to_be_bytes());
        message.extend_from_slice(&self.root);
        message
    }
}

/// Proof that a draw is the one that follows from a draw key and a sealed log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DrawProof([u8; PROOF_BYTES]);

impl std::fmt::Debug for DrawProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DrawProof({}..)", data_encoding::HEXLOWER.encode(&self.0[..4]))
    }
}

impl<C> Encode<C> for DrawProof {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.bytes(&self.0)?;
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for DrawProof {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        crate::canonical::decode_array(d, "a draw proof has 80 bytes").map(Self)
    }
}

/// A verifier's secret for its draws. It is another key than the one that signs, as one key has one purpose.
pub struct DrawKey(vrf_r255::SecretKey);

impl std::fmt::Debug for DrawKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DrawKey({})", self.public().short())
    }
}

impl DrawKey {
    /// The draw key that goes with an identity, so that a verifier keeps one secret file.
    ///
    /// # Panics
    ///
    /// Never in practice: the derived scalar is invalid with a probability below 2^-250.
    pub fn of(identity: &Keypair) -> Self {
        let mut reader =
            blake3::Hasher::new_derive_key("talkoot draw key v1").update(&identity.seed()).finalize_xof();
        loop {
            let mut bytes = [0; 32];
            reader.fill(&mut bytes);
            // Below 2^252, which is below the group order, so that every value is a valid scalar.
            bytes[31] &= 0x0f;
            if let Some(key) = Option::from(vrf_r255::SecretKey::from_bytes(bytes)) {
                return Self(key);
            }
        }
    }

    /// The public half, as it stands in the verifier's join.
    pub fn public(&self) -> Digest {
        Digest::from_bytes(vrf_r255::PublicKey::from(self.0).to_bytes())
    }

    /// The draw over `log`, with its proof.
    pub fn draw(&self, log: &SealedLog) -> DrawProof {
        prove(self, &log.message())
    }
}

/// The proof of a draw over any message; each purpose has messages of its own.
pub(crate) fn prove(key: &DrawKey, message: &[u8]) -> DrawProof {
    DrawProof(key.0.prove(message).to_bytes())
}

/// The random value of a proof over a message; none when it is not that of this key.
pub(crate) fn check(public: &Digest, message: &[u8], proof: &DrawProof) -> Option<Draw> {
    let key = vrf_r255::PublicKey::from_bytes(*public.as_bytes())?;
    let proof = vrf_r255::Proof::from_bytes(proof.0)?;
    Option::from(key.verify(message, &proof)).map(Draw)
}

/// The random value of a checked proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draw([u8; 64]);

/// The proof does not belong to this key and this log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the draw for round {round} is not the one that follows from the member's draw key and what is drawn over"
)]
pub struct DrawError {
    /// Number of the round.
    pub round: u64,
}

/// Checks `proof` and gives the random value.
///
/// # Errors
///
/// [`DrawError`] when the proof does not verify.
pub fn check_draw(public: &Digest, log: &SealedLog, proof: &DrawProof) -> Result<Draw, DrawError> {
    check(public, &log.message(), proof).ok_or(DrawError { round: log.round })
}

impl Draw {
    /// Whether the contribution of `member` is to be checked, when its probability is `probability`.
    pub fn selects(&self, member: &MemberId, probability: f64) -> bool {
        self.unit("talkoot challenge selection v1", member.as_bytes()) < probability
    }

    /// A hash that follows from the draw and `about`, for one purpose.
    pub(crate) fn derive(&self, purpose: &'static str, about: &[u8]) -> Digest {
        let hash = blake3::Hasher::new_derive_key(purpose).update(&self.0).update(about).finalize();
        Digest::from_bytes(*hash.as_bytes())
    }

    /// A number in [0, 1) that follows from the draw and `about`, for one purpose.
    pub(crate) fn unit(&self, purpose: &'static str, about: &[u8]) -> f64 {
        let mut word = [0; 8];
        word.copy_from_slice(&self.derive(purpose, about).as_bytes()[..8]);
        // 53 bits make an exact double in [0, 1), the same on every machine.
        (u64::from_be_bytes(word) >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl Draw {
    /// Which chunk of `chunks` of the error feedback of the commit at ledger index `commit` is looked at as sample `number`.
    pub fn sample(&self, commit: u64, number: u32, chunks: u64) -> u64 {
        let hash = blake3::Hasher::new_derive_key("talkoot sampled chunk v1")
            .update(&self.0)
            .update(&commit.to_be_bytes())
            .update(&number.to_be_bytes())
            .finalize();
        let mut word = [0; 8];
        word.copy_from_slice(&hash.as_bytes()[..8]);
        u64::from_be_bytes(word).checked_rem(chunks).unwrap_or(0)
    }
}

/// Probability that one verifier checks a contribution of a member with `streak` passed checks in a row.
///
/// 1 during probation, then `probation / streak`, never below `floor`: trust grows, but nobody is ever
/// unchecked (BOINC's adaptive replication with the floor that it lacks).
pub fn check_probability(streak: u64, probation: u32, floor: f64) -> f64 {
    let probation = u64::from(probation);
    if streak < probation {
        return 1.0;
    }
    let earned = if streak == 0 { 1.0 } else { probation as f64 / streak as f64 };
    if probation == 0 { floor } else { earned.max(floor) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(root: u8) -> SealedLog {
        SealedLog { run: Digest::of(b"run"), round: 4, size: 9, root: [root; 32] }
    }

    #[test]
    fn a_draw_belongs_to_one_key_and_one_log() {
        let key = DrawKey::of(&Keypair::from_seed([1; 32]));
        let other = DrawKey::of(&Keypair::from_seed([2; 32]));
        let proof = key.draw(&log(1));
        assert_eq!(proof, key.draw(&log(1)), "there is nothing to choose");
        assert!(check_draw(&key.public(), &log(1), &proof).is_ok());
        assert!(check_draw(&key.public(), &log(2), &proof).is_err());
        assert!(check_draw(&other.public(), &log(1), &proof).is_err());
    }

    #[test]
    fn samples_are_spread_and_differ_by_commit_and_draw() {
        let draws: Vec<Draw> = [1u8, 2].iter().map(|byte| Draw([*byte; 64])).collect();
        let of = |draw: &Draw, commit| (0..64).map(|at| draw.sample(commit, at, 100)).collect::<Vec<u64>>();
        let (first, other, another) = (of(&draws[0], 7), of(&draws[0], 8), of(&draws[1], 7));
        assert!(first.iter().all(|chunk| *chunk < 100));
        let distinct: std::collections::BTreeSet<_> = first.iter().collect();
        assert!(distinct.len() > 32, "{first:?}");
        assert!(first != other && first != another);
        assert_eq!(draws[0].sample(7, 0, 0), 0);
    }

    #[test]
    fn selection_follows_the_probability() {
        let key = DrawKey::of(&Keypair::from_seed([1; 32]));
        let draw = check_draw(&key.public(), &log(1), &key.draw(&log(1))).unwrap();
        let members: Vec<_> = (0u32..4_000)
            .map(|i| {
                let mut id = [0; 32];
                id[..4].copy_from_slice(&i.to_be_bytes());
                MemberId::from_bytes(id)
            })
            .collect();
        let count = |p: f64| members.iter().filter(|member| draw.selects(member, p)).count();
        assert_eq!(count(0.0), 0);
        assert_eq!(count(1.0), members.len());
        // Five standard deviations around 1,200 of 4,000.
        assert!((1_055..=1_345).contains(&count(0.3)), "{}", count(0.3));
    }

    #[test]
    fn probation_then_trust_then_the_floor() {
        assert_eq!(check_probability(0, 10, 0.05), 1.0);
        assert_eq!(check_probability(9, 10, 0.05), 1.0);
        assert_eq!(check_probability(20, 10, 0.05), 0.5);
        assert_eq!(check_probability(1_000_000, 10, 0.05), 0.05);
        assert_eq!(check_probability(0, 0, 0.3), 0.3);
    }
}
