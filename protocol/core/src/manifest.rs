//! The manifest: every rule of a run, fixed before it starts. Its hash is the run id.
//!
//! People write the [`Terms`] as TOML; `talkoot run init` adds the [`Bindings`] (keys and content addresses)
//! and logs both as entry 0 of the ledger.

mod terms;
mod validate;

use minicbor::{Decode, Encode};
use serde::{Deserialize, Serialize};

pub use terms::{
    Aggregation, AggregationRule, Assignment, Contribution, Deadlines, Gates, InnerState, Membership,
    ModuleGroup, MomentFormat, Normalisation, Optimizer, Stage, Terms, Tolerance, Verification,
    VerificationClass,
};
pub use validate::ManifestError;

use crate::{
    canonical::{self, CanonicalError},
    digest::{BlobRef, Digest},
    identity::MemberId,
};

/// Name of a run: the BLAKE3 hash of its manifest's canonical bytes.
pub type RunId = Digest;

/// Version of the protocol that this crate speaks.
pub const PROTOCOL_VERSION: u32 = 1;

/// Greatest length of a manifest's canonical bytes; it has to fit into one ledger entry.
pub const MAX_MANIFEST_BYTES: usize = 60_000;

/// Most periods of a stage's data.
pub const MAX_PERIODS: usize = 256;

/// The rules of a run together with what they are bound to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[serde(deny_unknown_fields)]
#[cbor(map)]
pub struct Manifest {
    /// What the organisers decided.
    #[n(0)]
    pub terms: Terms,
    /// The keys and blobs that the terms are about.
    #[n(1)]
    pub bindings: Bindings,
}

/// Keys and content addresses that tie the terms to one operator, one log, one model and its data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(deny_unknown_fields)]
#[cbor(map)]
pub struct Bindings {
    /// Key that signs the operator's statements.
    #[n(0)]
    pub operator: MemberId,
    /// Verifier key of the log in the text form of C2SP signed notes: `name+hash+base64`.
    #[n(1)]
    pub log_key: String,
    /// `config.json` of the model.
    #[n(2)]
    pub config: BlobRef,
    /// `tokenizer.json` of the model.
    #[n(3)]
    pub tokenizer: BlobRef,
    /// The weights that the first round starts from: canonical `model.safetensors`.
    #[n(4)]
    pub initial_state: BlobRef,
    /// The packed data of each stage, in the order of the stages.
    #[n(5)]
    pub datasets: Vec<DatasetBinding>,
}

/// The packed data of one stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(deny_unknown_fields)]
#[cbor(map)]
pub struct DatasetBinding {
    /// The index that lists the shards.
    #[n(0)]
    pub index: BlobRef,
    /// Number of packs in all shards.
    #[n(1)]
    pub packs: u64,
    /// Where the data are to be learnt in periods: the packs of each, in order. They are learnt period after period.
    #[n(2)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub periods: Option<Vec<u64>>,
}

impl Manifest {
    /// Canonical bytes: what is hashed and logged.
    pub fn to_bytes(&self) -> Vec<u8> {
        canonical::to_bytes(self)
    }

    /// Reads canonical bytes and checks every number.
    ///
    /// # Errors
    ///
    /// [`ManifestError`] when the bytes are not canonical or a field has an impossible value.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Self = canonical::from_bytes("manifest", bytes, MAX_MANIFEST_BYTES)?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// The run id.
    pub fn id(&self) -> RunId {
        Digest::of(&self.to_bytes())
    }

    /// The stage in place `index`, and its data.
    pub fn stage(&self, index: u32) -> Option<(&Stage, &DatasetBinding)> {
        let index = usize::try_from(index).ok()?;
        Some((self.terms.stages.get(index)?, self.bindings.datasets.get(index)?))
    }
}

impl From<CanonicalError> for ManifestError {
    fn from(error: CanonicalError) -> Self {
        Self::Encoding(error)
    }
}

impl Terms {
    /// Reads the TOML that people write.
    ///
    /// # Errors
    ///
    /// [`ManifestError`] that names an unknown or missing field with its line, or an impossible value.
    pub fn from_toml(text: &str) -> Result<Self, ManifestError> {
        let terms: Self = toml::from_str(text)
            .map_err(|error| ManifestError::Toml { reason: error.to_string().trim().to_owned() })?;
        terms.validate()?;
        Ok(terms)
    }

    /// Writes the TOML that [`Terms::from_toml`] reads.
    ///
    /// # Errors
    ///
    /// [`ManifestError::Toml`] when a number does not fit into TOML's integers (above 2^63).
    pub fn to_toml(&self) -> Result<String, ManifestError> {
        toml::to_string_pretty(self).map_err(|error| ManifestError::Toml { reason: error.to_string() })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{identity::Keypair, real::Real};

    /// Terms with one short stage, for tests.
    pub(crate) const EXAMPLE_TOML: &str = include_str!("manifest/example.toml");

    pub(crate) fn example_manifest(operator: &Keypair) -> Manifest {
        let terms = Terms::from_toml(EXAMPLE_TOML).expect("the example is valid");
        let datasets = terms
            .stages
            .iter()
            .map(|stage| DatasetBinding {
                index: BlobRef::of(stage.name.as_bytes()),
                packs: 97,
                periods: None,
            })
            .collect();
        Manifest {
            terms,
            bindings: Bindings {
                operator: operator.id(),
                log_key: "example.org/run+00000000+AA==".to_owned(),
                config: BlobRef::of(b"config"),
                tokenizer: BlobRef::of(b"tokenizer"),
                initial_state: BlobRef::of(b"state"),
                datasets,
            },
        }
    }

    #[test]
    fn toml_and_canonical_bytes_round_trip() {
        let manifest = example_manifest(&Keypair::from_seed([1; 32]));
        assert_eq!(Manifest::from_bytes(&manifest.to_bytes()).unwrap(), manifest);
        let toml = manifest.terms.to_toml().unwrap();
        assert_eq!(Terms::from_toml(&toml).unwrap(), manifest.terms);
    }

    #[test]
    fn an_unknown_field_is_named() {
        let text = EXAMPLE_TOML.replace("inner_steps = 4", "inner_steps = 4\ninner_stepz = 5");
        let error = Terms::from_toml(&text).unwrap_err().to_string();
        assert!(error.contains("inner_stepz"), "{error}");
    }

    #[test]
    fn impossible_numbers_are_named() {
        for (from, to, field) in [
            ("inner_steps = 4", "inner_steps = 0", "stages[0].inner_steps"),
            ("rate = 0.5", "rate = 1.5", "verification.rate"),
            ("rate = 0.5", "rate = 0.5\ndigest_interval = 0", "verification.digest_interval"),
            ("rate = 0.5", "rate = 0.5\nreinstate_after = 0", "verification.reinstate_after"),
            ("k = 64", "k = 5000", "contribution.k"),
            ("bits = 2", "bits = 3", "contribution.bits"),
            ("beta1 = 0.9", "beta1 = 1.0", "stages[0].optimizer.beta1"),
            ("outer_learning_rate = 1.0", "outer_learning_rate = nan", "aggregation.outer_learning_rate"),
            (
                "peak_learning_rate = 0.001",
                "peak_learning_rate = -1.0",
                "stages[0].optimizer.peak_learning_rate",
            ),
        ] {
            assert!(EXAMPLE_TOML.contains(from), "the example has {from:?}");
            let error = Terms::from_toml(&EXAMPLE_TOML.replacen(from, to, 1)).unwrap_err();
            match &error {
                ManifestError::Field { field: got, .. } => assert_eq!(got, field),
                other => panic!("{to}: {other}"),
            }
        }
    }

    #[test]
    fn a_witness_policy_is_read_and_written_only_where_there_is_one() {
        let bare = example_manifest(&Keypair::from_seed([1; 32]));
        assert_eq!(bare.terms.policy(), talkoot_ledger::Policy::none());
        let key = |n: u8| {
            talkoot_ledger::SignerKey::cosigner(&format!("w{n}.example.org"), &[n; 32]).unwrap().verifier()
        };
        let good = format!("witness w {} https://w.example.org\nquorum w\n", key(1));
        let mut manifest = bare.clone();
        manifest.terms.witness_policy = Some(good.clone());
        assert_eq!(Manifest::from_bytes(&manifest.to_bytes()).unwrap(), manifest);
        assert_eq!(Terms::from_toml(&manifest.terms.to_toml().unwrap()).unwrap(), manifest.terms);
        assert_ne!(manifest.id(), bare.id());
        assert!(manifest.terms.policy().demands_witnesses());
        let log = talkoot_ledger::SignerKey::log("log.example.org", &[1; 32]).unwrap().verifier();
        for (wrong, reason) in [
            (String::new(), "no quorum line"),
            ("quorum none\n".to_owned(), "demands nothing"),
            (format!("log {log}\n{good}"), "without log lines"),
            (format!("witness w {}\nquorum w\n", key(1)), "the witness w has no http address"),
            (
                format!("{good}witness v {} ftp://v.example.org\n", key(2)),
                "the witness v has no http address",
            ),
            (good.replace("quorum w", "quorum v"), "which no line before it defines"),
            ("#".repeat(16_385), "at most 16384 bytes"),
        ] {
            manifest.terms.witness_policy = Some(wrong);
            let error = manifest.validate().unwrap_err().to_string();
            assert!(error.contains("`witness_policy`") && error.contains(reason), "{error}");
        }
    }

    #[test]
    fn another_spelling_of_the_same_manifest_is_refused() {
        let bytes = example_manifest(&Keypair::from_seed([1; 32])).to_bytes();
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(matches!(
            Manifest::from_bytes(&longer),
            Err(ManifestError::Encoding(CanonicalError::NotCanonical { .. }))
        ));
    }

    #[test]
    fn a_tolerance_belongs_to_the_class_fast_and_to_no_other() {
        let mut terms = Terms::from_toml(EXAMPLE_TOML).unwrap();
        let small = Real::new(0.001);
        terms.verification.class = VerificationClass::Fast;
        let error = terms.validate().unwrap_err().to_string();
        assert!(error.contains("`verification.tolerance` is absent"), "{error}");
        assert!(error.contains("talkoot verifier calibrate"), "{error}");
        terms.verification.tolerance = Some(Tolerance {
            distance: small,
            angle: small,
            tensor_distance: small,
            tensor_angle: small,
            loss: small,
            gradient_norm: small,
            moments: Real::new(0.0),
        });
        terms.validate().unwrap();
        assert_eq!(Terms::from_toml(&terms.to_toml().unwrap()).unwrap(), terms);
        let mut loose = terms.clone();
        loose.verification.tolerance.as_mut().unwrap().distance = Real::new(1.0);
        let error = loose.validate().unwrap_err().to_string();
        assert!(error.contains("`verification.tolerance.distance` is 1"), "{error}");
        terms.verification.class = VerificationClass::Exact;
        let error = terms.validate().unwrap_err().to_string();
        assert!(error.contains("absent, as the class exact compares bytes"), "{error}");
    }

    #[test]
    fn the_format_of_moments_is_written_only_where_it_is_said() {
        let bare = Terms::from_toml(EXAMPLE_TOML).unwrap();
        let encoded = canonical::to_bytes(&bare.stages[0].optimizer);
        assert_eq!(encoded[0], 0xa8, "a map of eight, as before there was a choice");
        let mut ids = std::collections::BTreeSet::new();
        for (word, format) in [("f32", MomentFormat::F32), ("8bit", MomentFormat::EightBit)] {
            let text =
                EXAMPLE_TOML.replace("clip_norm = 1.0", &format!("clip_norm = 1.0\nmoments = \"{word}\""));
            let terms = Terms::from_toml(&text).unwrap();
            assert_eq!(terms.stages[0].optimizer.moments, Some(format));
            assert_eq!(Terms::from_toml(&terms.to_toml().unwrap()).unwrap(), terms);
            let encoded = canonical::to_bytes(&terms.stages[0].optimizer);
            assert_eq!(encoded[encoded.len() - 2..], [8, format as u8]);
            let manifest = Manifest { terms, ..example_manifest(&Keypair::from_seed([1; 32])) };
            assert_eq!(Manifest::from_bytes(&manifest.to_bytes()).unwrap(), manifest);
            ids.insert(manifest.id());
        }
        assert_eq!(ids.len(), 2, "the run's name says how moments are held");
        let wrong = EXAMPLE_TOML.replace("clip_norm = 1.0", "clip_norm = 1.0\nmoments = \"4bit\"");
        assert!(Terms::from_toml(&wrong).unwrap_err().to_string().contains("4bit"));
    }

    #[test]
    fn periods_are_written_only_where_there_are_some() {
        let bare = example_manifest(&Keypair::from_seed([1; 32]));
        let binding = canonical::to_bytes(&bare.bindings.datasets[0]);
        assert_eq!(binding[0], 0xa2, "a map of index and packs, as before there were periods");
        let mut manifest = bare.clone();
        manifest.bindings.datasets[0].periods = Some(vec![90, 7]);
        assert_eq!(Manifest::from_bytes(&manifest.to_bytes()).unwrap(), manifest);
        assert_ne!(manifest.id(), bare.id());
        for wrong in [vec![], vec![97, 0], vec![90, 8], vec![u64::MAX, 98]] {
            manifest.bindings.datasets[0].periods = Some(wrong);
            let error = manifest.validate().unwrap_err().to_string();
            assert!(error.contains("bindings.datasets[0].periods"), "{error}");
        }
        manifest.bindings.datasets[0].packs = 300;
        manifest.bindings.datasets[0].periods = Some(vec![1; 300]);
        assert!(manifest.validate().unwrap_err().to_string().contains("1 to 256 periods"));
    }
}
