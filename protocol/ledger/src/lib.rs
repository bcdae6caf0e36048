//! The transparency log: tiles, checkpoints, proofs, witnesses.
