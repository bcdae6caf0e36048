//! The model, the stages, the contribution codec, exact replay.
