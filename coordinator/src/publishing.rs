//! From signed to published: at once, or when the witnesses that the manifest demands have cosigned.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use talkoot_ledger::{Log, LogError};
use talkoot_protocol::manifest::Manifest;
use talkoot_witness::{Panel, PanelError};

/// How long witnesses are waited for before other work goes on. Who has not answered by then is asked again.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pause before witnesses are asked again.
const RETRY: Duration = Duration::from_secs(1);

/// The way from a signed checkpoint to one that everybody may see.
#[derive(Debug)]
pub(crate) struct Publishing {
    /// The witnesses; none where the manifest demands none.
    panel: Option<Arc<Panel>>,
    /// Whether the published checkpoint is one that members will follow.
    may_show: bool,
    /// Whether a quorum has confirmed, since this process started, that nobody has seen more of this log. Before that
    /// nothing may be signed: the folder could be an old copy.
    confirmed: bool,
    asked: Option<Instant>,
    /// What was told last, so that it is told once.
    told: String,
}

impl Publishing {
    pub(crate) fn new(manifest: &Manifest, log: &Log) -> Result<Self, PanelError> {
        let policy = manifest.terms.policy();
        let may_show = policy.verify(log.checkpoint().note.as_bytes(), &log.vkey()).is_ok();
        let panel =
            policy.demands_witnesses().then(|| Panel::new(policy, log.vkey()).map(Arc::new)).transpose()?;
        let confirmed = panel.is_none();
        Ok(Self { panel, may_show, confirmed, asked: None, told: String::new() })
    }

    /// Whether the published checkpoint may be shown. It may not when the run was only just made, with witnesses that
    /// have not seen it yet.
    pub(crate) const fn may_show(&self) -> bool {
        self.may_show
    }

    /// Whether something is to be published, or witnesses have to be asked before anything new is signed.
    pub(crate) fn is_waiting(&self, log: &Log) -> bool {
        log.unpublished().is_some() || !self.may_show || !self.confirmed
    }

    /// Publishes what was signed last, if it may be. Whether nothing is left to publish.
    pub(crate) async fn publish(&mut self, log: &mut Log) -> Result<bool, LogError> {
        if !self.is_waiting(log) {
            return Ok(true);
        }
        let signed = log.signed().clone();
        let Some(panel) = self.panel.clone() else {
            log.publish(&signed.note)?;
            return Ok(true);
        };
        if self.asked.is_some_and(|asked| asked.elapsed() < RETRY) {
            return Ok(false);
        }
        let folder = log.folder().clone();
        let asking = tokio::task::spawn_blocking(move || panel.cosign(&folder, &signed));
        let trouble = match tokio::time::timeout(PATIENCE, asking).await {
            Ok(Ok(Ok(cosigned))) => {
                log.publish(&cosigned.note)?;
                (self.may_show, self.confirmed) = (true, true);
                self.asked = None;
                let troubles: Vec<String> =
                    cosigned.troubles.iter().map(|(name, trouble)| format!("{name}: {trouble}")).collect();
                self.tell(&troubles.join("; "), "a quorum has cosigned, but not every witness");
                return Ok(true);
            }
            Ok(Ok(Err(no_quorum))) => no_quorum.to_string(),
            Ok(Err(_)) => "a worker thread panicked; the log of this process says where".to_owned(),
            Err(_) => format!("no quorum within {} s", PATIENCE.as_secs()),
        };
        self.asked = Some(Instant::now());
        self.tell(&trouble, "nothing is published until a quorum of witnesses has cosigned");
        Ok(false)
    }

    fn tell(&mut self, trouble: &str, what: &str) {
        if trouble != self.told {
            trouble.clone_into(&mut self.told);
            if !trouble.is_empty() {
                tracing::warn!(%trouble, "{what}");
            }
        }
    }
}
