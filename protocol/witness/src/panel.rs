//! Asking all the witnesses of a policy until a quorum has cosigned.

use std::{
    fmt,
    sync::{Arc, mpsc},
};

use talkoot_ledger::{CheckpointError, Folder, Note, Policy, SignedCheckpoint, VerifierKey};

use crate::{Trouble, WitnessClient};

/// Why a policy's witnesses can't be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PanelError {
    /// An address is none.
    #[error("the address {url:?} of the witness {name} cannot be used: {reason}")]
    BadUrl {
        /// The witness's name in the policy.
        name: String,
        /// The address.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Even if all witnesses that have an address cosign, there is no quorum.
    #[error("the policy's quorum needs witnesses that have no address; add their submission prefixes")]
    Unreachable,
}

/// Not enough witnesses have cosigned.
#[derive(Debug)]
pub struct NoQuorum {
    /// What became of each that didn't, by its name in the policy.
    pub troubles: Vec<(String, Trouble)>,
    refusal: Option<CheckpointError>,
}

impl fmt::Display for NoQuorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.refusal {
            Some(refusal) => write!(f, "{refusal}")?,
            None => f.write_str("no quorum of witnesses")?,
        }
        self.troubles.iter().try_for_each(|(name, trouble)| write!(f, "; {name}: {trouble}"))
    }
}

impl std::error::Error for NoQuorum {}

/// A note that a quorum has cosigned.
#[derive(Debug)]
pub struct Cosigned {
    /// The note, with the cosignatures.
    pub note: String,
    /// Witnesses that had trouble before the quorum was there.
    pub troubles: Vec<(String, Trouble)>,
}

/// The witnesses of a policy, to be asked together.
#[derive(Debug)]
pub struct Panel {
    policy: Policy,
    log: VerifierKey,
    /// Place in the policy, name there, and the way to it.
    clients: Vec<(usize, String, Arc<WitnessClient>)>,
}

impl Panel {
    /// The witnesses of `policy` that have an address, to cosign checkpoints of `log`.
    ///
    /// # Errors
    ///
    /// [`PanelError`].
    pub fn new(policy: Policy, log: VerifierKey) -> Result<Self, PanelError> {
        let mut clients = Vec::new();
        for (place, witness) in policy.witnesses().iter().enumerate() {
            let Some(url) = &witness.url else { continue };
            let client = WitnessClient::new(witness.key.clone(), url).map_err(|reason| {
                PanelError::BadUrl { name: witness.name.clone(), url: url.clone(), reason }
            })?;
            clients.push((place, witness.name.clone(), Arc::new(client)));
        }
        if !policy.is_quorum(|place| clients.iter().any(|(with_url, ..)| *with_url == place)) {
            return Err(PanelError::Unreachable);
        }
        Ok(Self { policy, log, clients })
    }

    /// The policy.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Collects cosignatures of `signed`, whose tiles lie in `folder`, until they are a quorum; those that it carries
    /// already are collected anew. All witnesses are asked at once; none is waited for once there are enough. Blocks,
    /// for a minute at most.
    ///
    /// # Errors
    ///
    /// [`NoQuorum`] when all have answered or failed and there are not enough.
    pub fn cosign(&self, folder: &Folder, signed: &SignedCheckpoint) -> Result<Cosigned, NoQuorum> {
        let mut troubles = Vec::new();
        let mut note = match Note::parse(signed.note.as_bytes()) {
            Ok(note) => note.with_only(|line| line.name == self.log.name() && line.key_id == self.log.id()),
            Err(error) => return Err(NoQuorum { troubles, refusal: Some(error.into()) }),
        };
        let (sender, answers) = mpsc::channel();
        for (_, name, client) in &self.clients {
            let (name, client, sender) = (name.clone(), Arc::clone(client), sender.clone());
            // the log's own line is all that a witness has to see
            let signed = SignedCheckpoint { note: note.to_string(), ..signed.clone() };
            let folder = folder.clone();
            // not joined: one that hangs ends by its own time limit, and until then is not asked again
            std::thread::spawn(move || {
                // nobody listens any more when there were enough
                let _ = sender.send((name, client.cosign(&folder, &signed)));
            });
        }
        drop(sender);
        let mut refusal = None;
        for (name, answer) in answers {
            match answer {
                Ok(cosignatures) => {
                    for cosignature in cosignatures {
                        if let Err(error) = note.add(cosignature) {
                            let reason = error.to_string();
                            troubles.push((name.clone(), Trouble::BadAnswer { reason }));
                        }
                    }
                    let text = note.to_string();
                    match self.policy.verify(text.as_bytes(), &self.log) {
                        Ok(_) => return Ok(Cosigned { note: text, troubles }),
                        Err(error) => refusal = Some(error),
                    }
                }
                Err(trouble) => troubles.push((name, trouble)),
            }
        }
        Err(NoQuorum { troubles, refusal })
    }
}
