//! Canaries: known lies, sent on purpose, by which a verifier that stamps everything is found.
//!
//! ```text
//! draw        = VRF(member's draw key, run ‖ round ‖ start state)       known to the member alone until it is opened
//! canary      = draw selects the commit, with the probability of the manifest
//! its lie     = the commit's `moments` are not those after the last step but follow from the draw
//! opening     = the proof of the draw, once nobody can give a verdict on the commit any more without having given it
//! ```
//! The digest of the inner optimiser's moments is what nobody can know without having taken all the steps. So a canary looks
//! like any commit, all its blobs are those of honest work, and whoever executes it finds the lie; who does not execute it can
//! only guess. The draw leaves nobody a choice: neither may a member call a lie a canary, nor leave its canaries out. And the
//! fold sees by itself that a canary is a lie: two hashes that do not agree by chance.

use crate::{
    challenge::{Draw, DrawError, DrawKey, DrawProof, check, prove},
    digest::{BlobRef, Digest},
    manifest::RunId,
};

/// What a member draws over: one round, as it is before anybody has trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CanaryDraw {
    /// The run.
    pub run: RunId,
    /// Number of the round.
    pub round: u64,
    /// The weights that it starts from: nobody knew them when keys were chosen.
    pub start_state: BlobRef,
}

impl CanaryDraw {
    fn message(&self) -> Vec<u8> {
        let mut message = b"talkoot/canary/v1\n".to_vec();
        message.extend_from_slice(self.run.as_bytes());
        message.extend_from_slice(&self.round.to_be_bytes());
        message.extend_from_slice(self.start_state.digest.as_bytes());
        message
    }

    /// The proof of a member's draw.
    pub fn prove(&self, key: &DrawKey) -> DrawProof {
        prove(key, &self.message())
    }

    /// Checks a proof and gives what was drawn.
    ///
    /// # Errors
    ///
    /// [`DrawError`] when it is not that of this key and round.
    pub fn check(&self, public: &Digest, proof: &DrawProof) -> Result<Drawn, DrawError> {
        check(public, &self.message(), proof).map(Drawn).ok_or(DrawError { round: self.round })
    }
}

/// What a member drew for one round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawn(Draw);

impl Drawn {
    /// Whether its commit is to be a canary, where commits are with this probability.
    pub fn is_canary(&self, rate: f64) -> bool {
        self.0.unit("talkoot canary selection v1", &[]) < rate
    }

    /// What a canary's commit gives as the digest of its moments.
    pub fn false_moments(&self) -> Digest {
        self.0.derive("talkoot canary moments v1", &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Keypair;

    fn draw(round: u64) -> CanaryDraw {
        CanaryDraw { run: Digest::of(b"run"), round, start_state: BlobRef::of(b"state") }
    }

    fn drawn(seed: u8, round: u64) -> Drawn {
        let key = DrawKey::of(&Keypair::from_seed([seed; 32]));
        draw(round).check(&key.public(), &draw(round).prove(&key)).unwrap()
    }

    #[test]
    fn a_draw_belongs_to_one_key_one_round_and_one_state() {
        let key = DrawKey::of(&Keypair::from_seed([1; 32]));
        let proof = draw(3).prove(&key);
        assert_eq!(proof, draw(3).prove(&key), "there is nothing to choose");
        assert!(draw(4).check(&key.public(), &proof).is_err());
        let other = DrawKey::of(&Keypair::from_seed([2; 32]));
        assert!(draw(3).check(&other.public(), &proof).is_err());
        let elsewhere = CanaryDraw { start_state: BlobRef::of(b"another"), ..draw(3) };
        assert!(elsewhere.check(&key.public(), &proof).is_err());
        assert_ne!(drawn(1, 3).false_moments(), drawn(1, 4).false_moments());
        assert_ne!(drawn(1, 3).false_moments(), drawn(2, 3).false_moments());
    }

    #[test]
    fn canaries_come_as_often_as_the_terms_say() {
        let count = |rate: f64| (0..300).filter(|round| drawn(1, *round).is_canary(rate)).count();
        assert_eq!((count(0.0), count(1.0)), (0, 300));
        // Five standard deviations around 60 of 300.
        assert!((26..=94).contains(&count(0.2)), "{}", count(0.2));
    }
}
