//! Disputes: who is right, the member or its accuser, judged by executing a step or a few.
//!
//! ```text
//! two traces --halving--> the first step at which they part --> the last state before it that both name
//! that state, the step's packs --executed--> the truth        --> who said otherwise
//! ```
//! A verifier that finds a failure keeps a [`Bundle`]: a folder in which everything is that this takes, and which a stranger
//! judges off-line ([`judge_bundle`], `talkoot audit --dispute`). Other verifiers judge by the same code before they replay.
//!
//! What is found is who told a lie *about that step*. That a member is right there says nothing of what both agree on: an
//! accuser in league with it could have agreed to a lie before. So a dispute convicts, and only a whole replay acquits.

mod bundle;
mod evidence;
mod judge;
mod report;
#[cfg(test)]
mod tests;

use std::path::Path;

use talkoot_execution::{Arithmetic, Job, open_packs, parse_config};
use talkoot_protocol::{digest::BlobRef, manifest::VerificationClass};
use talkoot_trainer::{snapshot::Snapshot, state::State};

pub use bundle::{Bundle, BundleError};
pub use judge::Ruling;
pub use report::{DisputeReport, Liar};

pub(crate) use evidence::{Evidence, keep};
pub(crate) use judge::{Accounts, Case, Question, Undecidable};

/// Judges a bundle by itself. `key` is the log's verifier key where the reader has it from elsewhere; otherwise the one in the
/// bundle is taken, and the report says so.
///
/// What cannot be judged, as the bundle was tampered with or lacks something, is in the report with the reason.
pub fn judge_bundle(folder: &Path, key: Option<&str>) -> DisputeReport {
    let mut report = DisputeReport::new(key.is_some());
    if let Err(reason) = judge_into(folder, key, &mut report) {
        report.refused = Some(reason);
    }
    report
}

fn judge_into(folder: &Path, key: Option<&str>, report: &mut DisputeReport) -> Result<(), String> {
    let bundle = Bundle::open(folder, key).map_err(|error| error.to_string())?;
    report.describe(&bundle);
    let manifest = bundle.state.manifest();
    if !matches!(manifest.terms.verification.class, VerificationClass::Exact) {
        return Err(Undecidable::Class.to_string());
    }
    let read =
        |what: &'static str, blob: &BlobRef| bundle.read(what, blob).map_err(|error| error.to_string());
    let commit = &bundle.commit;
    let trace = |blob: &BlobRef| read("the accuser's trace", blob);
    let accounts = Accounts {
        claimed: read("the member's trace", &commit.trace)?,
        replayed: bundle.accusation.trace.as_ref().map(trace).transpose()?,
        interval: manifest.terms.verification.digest_interval(),
        commit: commit.clone(),
        accusation: bundle.accusation.clone(),
    };
    let question = accounts.question().map_err(|reason| reason.to_string())?;
    report.checked(format!("both accounts, as the two signed them: they disagree on {question}"));
    let config = read("the model's config", &manifest.bindings.config)?;
    let config = parse_config(&config).map_err(|error| error.to_string())?;
    let start = read("the start state", &bundle.round.open.start_state)?;
    let start = State::from_safetensors(&start, &config).map_err(|error| error.to_string())?;
    let (stage, dataset) =
        manifest.stage(bundle.round.open.stage).ok_or("the round is of a stage that the manifest lacks")?;
    let index = read("the data set's index", &dataset.index)?;
    let blobs = bundle.blobs().to_owned();
    let packs =
        open_packs(&index, move |digest| Some(blobs.join(digest.to_string())).filter(|path| path.is_file()))
            .map_err(|error| error.to_string())?;
    let feedback_in = match &commit.feedback_in {
        Some(blob) if question.needs_feedback() => Some(read("the error feedback before", blob)?),
        _ => None,
    };
    let mut precedent = Vec::new();
    if question.begins_at_the_start() {
        for (_, commit) in bundle.round.precedent.iter().flat_map(|precedent| &precedent.contributions) {
            precedent.push(read("a contribution of the round before", &commit.contribution)?);
        }
    }
    let layout = talkoot_execution::layout_of(&config, stage).map_err(|error| error.to_string())?;
    let state = match accounts.agreed_state(&question) {
        Some(digest) => {
            let blob = BlobRef { digest, bytes: Snapshot::bytes_of(&layout) };
            let bytes = read("the training state that both name", &blob)?;
            report.checked("the training state before, by the digest that both name".to_owned());
            Some(Snapshot::from_bytes(&bytes, &layout).map_err(|error| error.to_string())?)
        }
        None => None,
    };
    let job = Job {
        manifest,
        config: &config,
        round: &bundle.round,
        work: bundle.round.work_of(&bundle.member).ok_or("the member has no seat in the round")?,
        steps: commit.steps,
        start: &start,
        feedback_in: feedback_in.as_deref(),
        precedent: &precedent,
        arithmetic: Arithmetic::Exact,
    };
    let case = Case { job, packs: &packs, accounts: &accounts, state: state.as_ref() };
    let ruling = case
        .judge(&question)
        .map_err(|error| format!("the step cannot be executed: {}", crate::audit::chain(&error)))?;
    report.rule(&bundle, &question, &ruling);
    Ok(())
}
