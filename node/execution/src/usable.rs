//! Which of a round's contributions may enter: the gates, in order.
//!
//! Form and header, then the second moments where the run has public ones, then the norm, then how much is the same as in
//! somebody else's. What is found depends on the sealed set alone, so that everybody finds the same.

use talkoot_protocol::{
    event::Commit,
    identity::MemberId,
    manifest::{Gates, InnerState, Manifest},
};
use talkoot_trainer::{
    aggregate::{NormGate, measure, overlap},
    config::ModelConfig,
    contribution::{CodecSettings, Contribution, Header, Layout},
    moments::{Factors, matrix_shapes},
};

use crate::layout::codec_settings;

/// A contribution that could not enter, for a reason that everybody finds alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// Whose it was.
    pub member: MemberId,
    /// Why.
    pub reason: String,
}

/// A contribution that may enter.
#[derive(Debug)]
pub(crate) struct Usable<'a> {
    pub(crate) member: MemberId,
    pub(crate) commit: &'a Commit,
    pub(crate) bytes: &'a [u8],
    /// What comes with it where the run has public moments.
    pub(crate) factors: Option<Factors>,
}

/// Sorts a round's contributions, in the order of the seal, into those that may enter and the others.
pub(crate) fn usable<'a, B: AsRef<[u8]>>(
    manifest: &Manifest,
    config: &ModelConfig,
    layout: &Layout,
    contributions: &'a [(MemberId, &'a Commit, B)],
) -> (Vec<Usable<'a>>, Vec<Dropped>) {
    let settings = codec_settings(&manifest.terms.contribution);
    let public = manifest.terms.contribution.inner_state == InnerState::Public;
    let form = Form { settings: &settings, layout, config, public };
    let mut dropped = Vec::new();
    let mut used = Vec::new();
    for (member, commit, bytes) in contributions {
        let bytes = bytes.as_ref();
        match form.check(member, commit, bytes) {
            Ok(factors) => used.push(Usable { member: *member, commit, bytes, factors }),
            Err(reason) => dropped.push(Dropped { member: *member, reason }),
        }
    }
    if let Some(gates) = &manifest.terms.aggregation.gates {
        used = plausible(gates, used, &settings, layout, &mut dropped);
    }
    (used, dropped)
}

/// What every contribution of a stage has to look like.
struct Form<'a> {
    settings: &'a CodecSettings,
    layout: &'a Layout,
    config: &'a ModelConfig,
    public: bool,
}

impl Form<'_> {
    fn check(&self, member: &MemberId, commit: &Commit, bytes: &[u8]) -> Result<Option<Factors>, String> {
        let contribution =
            Contribution::open(bytes, self.settings, self.layout).map_err(|error| error.to_string())?;
        contribution.visit(|_| ()).map_err(|error| error.to_string())?;
        let Header { version, origin, .. } = contribution.header();
        let expected = (commit.round, member.as_bytes(), commit.steps, commit.tokens);
        if (origin.round, &origin.member, origin.steps, origin.tokens) != expected {
            return Err(
                "its header speaks of another round, member, number of steps or tokens than its commit"
                    .to_owned(),
            );
        }
        if commit.tokens == 0 {
            return Err("it was trained on no tokens".to_owned());
        }
        match (self.public, contribution.factors()) {
            (false, None) => Ok(None),
            (true, Some(bytes)) => Factors::from_bytes(bytes, &matrix_shapes(self.config, self.layout))
                .map(Some)
                .map_err(|error| error.to_string()),
            (true, None) => {
                Err(format!("it is of version {version}, without the second moments that the run needs"))
            }
            (false, Some(_)) => {
                Err(format!("it is of version {version}, with second moments that the run has no use for"))
            }
        }
    }
}

/// Those within the gates: the norm first, by the median of all that are well-formed; then likeness, where the first in the
/// order of the seal stays. No order would tell who copied whom, as blobs are shown after the seal: a replay does, since only
/// one of them can have done its own packs.
fn plausible<'a>(
    gates: &Gates,
    used: Vec<Usable<'a>>,
    settings: &CodecSettings,
    layout: &Layout,
    dropped: &mut Vec<Dropped>,
) -> Vec<Usable<'a>> {
    let norm_of = |usable: &Usable<'_>| measure(usable.bytes, settings, layout).map_or(f64::NAN, |m| m.norm);
    let norms: Vec<f64> = used.iter().map(norm_of).collect();
    let gate = NormGate { low: gates.norm_low.get(), high: gates.norm_high.get() };
    let mut within = Vec::with_capacity(used.len());
    for (usable, norm) in used.into_iter().zip(&norms) {
        match gate.check(*norm, &norms) {
            Ok(()) => within.push(usable),
            Err(error) => dropped.push(Dropped { member: usable.member, reason: error.to_string() }),
        }
    }
    let mut copies = vec![None; within.len()];
    for later in 0..within.len() {
        for earlier in 0..later {
            let shared = overlap(within[earlier].bytes, within[later].bytes, settings, layout)
                .map_or(0.0, |overlap| overlap.fraction());
            if shared > gates.overlap.get() && copies[earlier].is_none() {
                copies[later] = Some((within[earlier].member, shared));
                break;
            }
        }
    }
    let mut kept = Vec::with_capacity(within.len());
    for (usable, copy) in within.into_iter().zip(copies) {
        match copy {
            None => kept.push(usable),
            Some((first, shared)) => dropped.push(Dropped {
                member: usable.member,
                reason: format!("{:.0} % of its entries are those of {}", shared * 100.0, first.short()),
            }),
        }
    }
    kept
}
