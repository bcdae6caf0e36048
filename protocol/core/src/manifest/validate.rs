//! Every number of a manifest is looked at once, here, and the error names the field.

use std::collections::BTreeSet;

use talkoot_ledger::Policy;

use super::{
    Aggregation, AggregationRule, DatasetBinding, MAX_PERIODS, Manifest, PROTOCOL_VERSION, Stage, Terms,
    Tolerance, Verification, VerificationClass,
};
use crate::{canonical::CanonicalError, real::Real};

/// Why a manifest is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The text is not the TOML of a manifest.
    #[error("the manifest cannot be read: {reason}")]
    Toml {
        /// What the parser met, with line and column.
        reason: String,
    },
    /// The canonical bytes are not those of a manifest.
    #[error(transparent)]
    Encoding(CanonicalError),
    /// A field has a value that no run can have.
    #[error("manifest field `{field}` is {got}, but has to be {expected}")]
    Field {
        /// Path of the field.
        field: String,
        /// The value as it came.
        got: String,
        /// What would be accepted.
        expected: String,
    },
}

/// Greatest length of a name in characters.
const MAX_NAME: usize = 64;
/// Greatest number of stages, rounds a stage, members: far above any plan, far below an overflow.
const MAX_STAGES: usize = 64;
const MAX_ROUNDS: u32 = 1_000_000;
const MAX_INNER_STEPS: u32 = 4_096;
const MAX_PACKS_PER_STEP: u32 = 65_536;
const MAX_SEQUENCE_TOKENS: u32 = 1 << 20;
/// The sealed set and the seats of a round have to fit into one ledger entry.
const MAX_MEMBERS: u32 = 1_000;
const MAX_DEADLINE_S: u32 = 30 * 24 * 3_600;
/// Greatest length of the witness policy in bytes: a quarter of a manifest, room for dozens of witnesses.
const MAX_WITNESS_POLICY: usize = 16 * 1_024;

fn field(name: &str, got: impl ToString, expected: impl ToString, holds: bool) -> Result<(), ManifestError> {
    if holds {
        return Ok(());
    }
    Err(ManifestError::Field { field: name.to_owned(), got: got.to_string(), expected: expected.to_string() })
}

fn within(name: &str, got: u32, least: u32, most: u32) -> Result<(), ManifestError> {
    field(name, got, format!("between {least} and {most}"), (least..=most).contains(&got))
}

fn real(name: &str, got: Real, expected: &str, holds: impl Fn(f64) -> bool) -> Result<(), ManifestError> {
    field(name, got, expected, got.get().is_finite() && holds(got.get()))
}

fn plain_name(name: &str, got: &str) -> Result<(), ManifestError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    field(
        name,
        format!("{got:?}"),
        format!("1 to {MAX_NAME} characters of a-z, 0-9 and -"),
        !got.is_empty() && got.len() <= MAX_NAME && got.chars().all(plain),
    )
}

impl Manifest {
    /// Checks every field.
    ///
    /// # Errors
    ///
    /// [`ManifestError::Field`] for the first field with an impossible value.
    pub fn validate(&self) -> Result<(), ManifestError> {
        self.terms.validate()?;
        let bindings = &self.bindings;
        field(
            "bindings.datasets",
            format!("{} entries", bindings.datasets.len()),
            format!("one entry for each of the {} stages", self.terms.stages.len()),
            bindings.datasets.len() == self.terms.stages.len(),
        )?;
        for (i, dataset) in bindings.datasets.iter().enumerate() {
            dataset.validate(&format!("bindings.datasets[{i}]"))?;
        }
        field(
            "bindings.log_key",
            format!("{:?}", bindings.log_key),
            "a verifier key of at most 512 characters",
            !bindings.log_key.is_empty() && bindings.log_key.len() <= 512,
        )
    }
}

impl DatasetBinding {
    fn validate(&self, path: &str) -> Result<(), ManifestError> {
        let packs = self.packs;
        field(&format!("{path}.packs"), packs, "between 1 and 2^40", (1..=1 << 40).contains(&packs))?;
        let Some(periods) = &self.periods else { return Ok(()) };
        let sum = periods.iter().try_fold(0u64, |sum, period| sum.checked_add(*period));
        let shown = sum.map_or_else(|| "too many".to_owned(), |sum| sum.to_string());
        field(
            &format!("{path}.periods"),
            format!("{} periods of {shown} packs together", periods.len()),
            format!("1 to {MAX_PERIODS} periods, each of 1 pack or more, {packs} packs together"),
            (1..=MAX_PERIODS).contains(&periods.len()) && !periods.contains(&0) && sum == Some(packs),
        )
    }
}

impl Terms {
    /// Checks every field.
    ///
    /// # Errors
    ///
    /// [`ManifestError::Field`] for the first field with an impossible value.
    pub fn validate(&self) -> Result<(), ManifestError> {
        field(
            "protocol",
            self.protocol,
            format!("{PROTOCOL_VERSION}, the version that this program speaks"),
            self.protocol == PROTOCOL_VERSION,
        )?;
        plain_name("name", &self.name)?;
        field(
            "seed",
            self.seed,
            "at most 2^63 - 1, the greatest integer of TOML",
            i64::try_from(self.seed).is_ok(),
        )?;
        field(
            "stages",
            format!("{} stages", self.stages.len()),
            format!("1 to {MAX_STAGES} stages"),
            (1..=MAX_STAGES).contains(&self.stages.len()),
        )?;
        for (i, stage) in self.stages.iter().enumerate() {
            stage.validate(&format!("stages[{i}]"))?;
        }
        let codec = &self.contribution;
        within("contribution.chunk", codec.chunk, 64, 65_536)?;
        within("contribution.k", codec.k, 1, codec.chunk)?;
        field("contribution.bits", codec.bits, "1, 2, 4 or 8", [1, 2, 4, 8].contains(&codec.bits))?;
        real("contribution.error_feedback", codec.error_feedback, "between 0 and 1", |x| {
            (0.0..=1.0).contains(&x)
        })?;
        self.aggregation.validate()?;
        let checks = &self.verification;
        checks.validate()?;
        let membership = &self.membership;
        within("membership.max_members", membership.max_members, 1, MAX_MEMBERS)?;
        within("membership.min_members", membership.min_members, 1, membership.max_members)?;
        within("verification.min_verifiers", checks.min_verifiers, 0, membership.max_members)?;
        if let Some(confirmations) = checks.confirmations {
            // With fewer verifiers nothing could ever be confirmed.
            within("verification.confirmations", confirmations, 1, checks.min_verifiers.max(1))?;
        }
        within("verification.digest_interval", checks.digest_interval(), 1, MAX_INNER_STEPS)?;
        if let Some(allow) = &membership.allow {
            let distinct: BTreeSet<_> = allow.iter().collect();
            field(
                "membership.allow",
                format!("{} keys, {} of them distinct", allow.len(), distinct.len()),
                format!("1 to {} distinct keys", membership.max_members),
                !allow.is_empty()
                    && distinct.len() == allow.len()
                    && u32::try_from(allow.len()).is_ok_and(|n| n <= membership.max_members),
            )?;
        }
        let deadlines = &self.deadlines;
        within("deadlines.training_s", deadlines.training_s, 1, MAX_DEADLINE_S)?;
        within("deadlines.verification_s", deadlines.verification_s, 1, MAX_DEADLINE_S)?;
        within("deadlines.outcome_s", deadlines.outcome_s, 1, MAX_DEADLINE_S)?;
        within("deadlines.absence_s", deadlines.absence_s, 1, MAX_DEADLINE_S)?;
        if let Some(age) = deadlines.checkpoint_age_s {
            within("deadlines.checkpoint_age_s", age, 1, MAX_DEADLINE_S)?;
        }
        self.witness_policy.as_deref().map_or(Ok(()), witness_policy)
    }
}

/// The log is known by its key in the bindings, so the text names witnesses alone; and each with its address, as the
/// coordinator has to ask them.
fn witness_policy(text: &str) -> Result<(), ManifestError> {
    let refused = |got: String, expected: &str| field("witness_policy", got, expected, false);
    if text.len() > MAX_WITNESS_POLICY {
        return refused(format!("{} bytes", text.len()), "at most 16384 bytes");
    }
    let policy: Policy = match text.parse() {
        Ok(policy) => policy,
        Err(error) => return refused(format!("refused ({error})"), "a text in the format of tlog-policy"),
    };
    if let Some(log) = policy.logs().first() {
        return refused(format!("one with the log {}", log.key.name()), "without log lines");
    }
    if !policy.demands_witnesses() {
        return refused("one that demands nothing".to_owned(), "left out, or one that demands a quorum");
    }
    let has_address = |url: &str| {
        ["http://", "https://"].iter().any(|scheme| url.len() > scheme.len() && url.starts_with(scheme))
    };
    match policy.witnesses().iter().find(|witness| !witness.url.as_deref().is_some_and(has_address)) {
        Some(witness) => refused(
            format!("one in which the witness {} has no http address", witness.name),
            "one with an address of each witness, behind its key",
        ),
        None => Ok(()),
    }
}

impl Aggregation {
    fn validate(&self) -> Result<(), ManifestError> {
        let rate = self.outer_learning_rate;
        real("aggregation.outer_learning_rate", rate, "above 0 and at most 10", |x| x > 0.0 && x <= 10.0)?;
        let wanted = [
            ("aggregation.clip", self.clip, AggregationRule::CenteredClip),
            ("aggregation.trim", self.trim, AggregationRule::Trimmed),
        ];
        for (name, given, rule) in wanted {
            let expected = if self.rule == rule { "a number, as the rule needs it" } else { "absent" };
            let got = given.map_or_else(|| "absent".to_owned(), |given| given.to_string());
            field(name, got, expected, given.is_some() == (self.rule == rule))?;
        }
        if let Some(clip) = self.clip {
            real("aggregation.clip", clip, "above 0 and at most 100", |x| x > 0.0 && x <= 100.0)?;
        }
        if let Some(trim) = self.trim {
            real("aggregation.trim", trim, "at least 0 and below 0.5", |x| (0.0..0.5).contains(&x))?;
        }
        let Some(gates) = &self.gates else { return Ok(()) };
        real("aggregation.gates.norm_low", gates.norm_low, "between 0 and 1", |x| (0.0..=1.0).contains(&x))?;
        real("aggregation.gates.norm_high", gates.norm_high, "between 1 and 1000", |x| {
            (1.0..=1000.0).contains(&x)
        })?;
        real("aggregation.gates.overlap", gates.overlap, "above 0 and at most 1", |x| x > 0.0 && x <= 1.0)
    }
}

impl Verification {
    fn validate(&self) -> Result<(), ManifestError> {
        within("verification.probation", self.probation, 0, 100_000)?;
        real("verification.rate", self.rate, "between 0 and 1", |x| (0.0..=1.0).contains(&x))?;
        let (fast, given) = (self.class == VerificationClass::Fast, self.tolerance.is_some());
        let expected = if fast {
            "what `talkoot verifier calibrate` writes, as the class fast needs it"
        } else {
            "absent, as the class exact compares bytes"
        };
        if let Some(canaries) = self.canaries {
            real("verification.canaries", canaries, "above 0 and at most 0.5", |x| x > 0.0 && x <= 0.5)?;
            // Their lie is a digest that only the exact class can check.
            field("verification.canaries", canaries, "absent in the class fast", !fast)?;
        }
        field("verification.tolerance", if given { "present" } else { "absent" }, expected, fast == given)?;
        self.tolerance.as_ref().map_or(Ok(()), Tolerance::validate)
    }
}

impl Tolerance {
    /// A pseudo-gradient as far away as it is long, or at a right angle, would be any other.
    fn validate(&self) -> Result<(), ManifestError> {
        let numbers = [
            ("distance", self.distance, 1.0),
            ("angle", self.angle, 1.0),
            ("tensor_distance", self.tensor_distance, 2.0),
            ("tensor_angle", self.tensor_angle, 2.0),
            ("loss", self.loss, 10.0),
            ("gradient_norm", self.gradient_norm, 1.0),
            ("moments", self.moments, 128.0),
        ];
        for (name, got, below) in numbers {
            let expected = format!("at least 0 and below {below}");
            real(&format!("verification.tolerance.{name}"), got, &expected, |x| (0.0..below).contains(&x))?;
        }
        Ok(())
    }
}

impl Stage {
    fn validate(&self, path: &str) -> Result<(), ManifestError> {
        let at = |name: &str| format!("{path}.{name}");
        plain_name(&at("name"), &self.name)?;
        let distinct: BTreeSet<_> = self.trainable.iter().collect();
        field(
            &at("trainable"),
            format!("{:?}", self.trainable),
            "one or more distinct of vision, merger, language",
            !self.trainable.is_empty() && distinct.len() == self.trainable.len(),
        )?;
        within(&at("rounds"), self.rounds, 1, MAX_ROUNDS)?;
        within(&at("inner_steps"), self.inner_steps, 1, MAX_INNER_STEPS)?;
        within(&at("packs_per_step"), self.packs_per_step, 1, MAX_PACKS_PER_STEP)?;
        within(&at("sequence_tokens"), self.sequence_tokens, 16, MAX_SEQUENCE_TOKENS)?;
        let optimizer = &self.optimizer;
        let positive = |x: f64| x > 0.0 && x <= 1.0;
        real(
            &at("optimizer.peak_learning_rate"),
            optimizer.peak_learning_rate,
            "above 0 and at most 1",
            positive,
        )?;
        real(&at("optimizer.final_learning_rate"), optimizer.final_learning_rate, "between 0 and 1", |x| {
            (0.0..=1.0).contains(&x)
        })?;
        real(&at("optimizer.weight_decay"), optimizer.weight_decay, "between 0 and 1", |x| {
            (0.0..=1.0).contains(&x)
        })?;
        let decay = |x: f64| (0.0..1.0).contains(&x);
        real(&at("optimizer.beta1"), optimizer.beta1, "at least 0 and below 1", decay)?;
        real(&at("optimizer.beta2"), optimizer.beta2, "at least 0 and below 1", decay)?;
        real(&at("optimizer.epsilon"), optimizer.epsilon, "above 0 and at most 1", positive)?;
        real(&at("optimizer.clip_norm"), optimizer.clip_norm, "above 0 and at most 1e6", |x| {
            x > 0.0 && x <= 1e6
        })
    }
}
