//! `talkoot key rotate` and `talkoot key revoke`

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use talkoot_network::{
    BlobStore, NetworkConfig,
    keyfile::{self, Passphrase},
};
use talkoot_protocol::{
    challenge::DrawKey,
    event::{Event, Revoke, Rotate},
    identity::{Keypair, MemberId},
    link::JoinLink,
    run::RunState,
};
use talkoot_replica::{Follower, Submission};

use crate::commands::{read_link, say, serve, tell};

/// Pause before a coordinator that does not answer is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// Puts a fresh key in the place of a member's.
#[derive(Debug, Args)]
pub(crate) struct Rotation {
    /// The member's key file, as DIR/keys/node.key; the fresh key takes its name, the old one is kept beside it. The member
    /// must not be running.
    file: PathBuf,
    /// The join link of the run, or @FILE with one.
    #[arg(long, value_name = "LINK")]
    join: String,
    /// The recovery key, when the member's own is lost or in other hands. Its probation begins anew then.
    #[arg(long, value_name = "FILE", requires = "member")]
    by: Option<PathBuf>,
    /// With --by: the member whose key is replaced.
    #[arg(long, value_name = "MEMBER", requires = "by")]
    member: Option<MemberId>,
}

/// Ends a member's key.
#[derive(Debug, Args)]
pub(crate) struct Revocation {
    /// The key that says so: the member's own, or its recovery key.
    file: PathBuf,
    /// The join link of the run, or @FILE with one.
    #[arg(long, value_name = "LINK")]
    join: String,
    /// The member whose key ends, when FILE is its recovery key.
    #[arg(long, value_name = "MEMBER")]
    member: Option<MemberId>,
}

impl Rotation {
    pub(super) fn run(self) -> Result<ExitCode> {
        let link = read_link(&self.join)?;
        let next = self.file.with_extension("key.next");
        let (signer, old) = match (&self.by, self.member) {
            (Some(by), Some(member)) => (keyfile::load(by)?, member),
            _ => {
                let key = keyfile::load(&self.file)?;
                (key.clone(), key.id())
            }
        };
        // One that was made before and not used: an earlier try that was cut short.
        let fresh = if next.exists() {
            keyfile::load(&next)?
        } else {
            let locked = self.file.exists() && keyfile::is_locked(&self.file)?;
            let passphrase: Option<Passphrase> = if locked { super::passphrase_for(&next)? } else { None };
            keyfile::create_fresh(&next, passphrase.as_ref().map(|text| text.as_str()))?
        };
        let successor = fresh.id();
        let rotate = move |state: &RunState| -> Result<Option<Event>> {
            let member =
                state.members().get(&old).with_context(|| format!("{old} is no member of this run"))?;
            if member.successor == Some(successor) {
                return Ok(None);
            }
            let draw_key = member.draw_key.map(|_| DrawKey::of(&fresh).public());
            Ok(Some(Event::Rotate(Rotate::new(&state.run(), old, &fresh, draw_key))))
        };
        say_in_run(link, signer, rotate)?;
        if self.file.exists() {
            let kept = self.file.with_extension(format!("key.retired-{}", old.short()));
            if !kept.exists() {
                fs::hard_link(&self.file, &kept).with_context(|| format!("keeping {}", kept.display()))?;
            }
        }
        fs::rename(&next, &self.file).with_context(|| format!("replacing {}", self.file.display()))?;
        say(&format!("{old} is {successor} from now on"));
        Ok(ExitCode::SUCCESS)
    }
}

impl Revocation {
    pub(super) fn run(self) -> Result<ExitCode> {
        let link = read_link(&self.join)?;
        let signer = keyfile::load(&self.file)?;
        let member = self.member.unwrap_or_else(|| signer.id());
        let revoke = move |state: &RunState| -> Result<Option<Event>> {
            let known = state.members().get(&member);
            let known = known.with_context(|| format!("{member} is no member of this run"))?;
            Ok(known.retired.is_none().then_some(Event::Revoke(Revoke { member })))
        };
        say_in_run(link, signer, revoke)?;
        say(&format!("the key of {member} is worth nothing in this run from now on"));
        Ok(ExitCode::SUCCESS)
    }
}

/// Meets the run, reads its ledger, and says with `key` what `what` makes of it, unless there is nothing left to say.
fn say_in_run(
    link: JoinLink,
    key: Keypair,
    what: impl FnOnce(&RunState) -> Result<Option<Event>>,
) -> Result<()> {
    let scratch = tempfile::tempdir().context("making a folder for a copy of the ledger")?;
    serve(|cancel| async move {
        tokio::select! {
            biased;
            () = cancel.cancelled() => bail!("stopped; say it again to be sure"),
            said = say_it(link, key, scratch.path(), what) => said,
        }
    })?;
    Ok(())
}

async fn say_it(
    link: JoinLink,
    key: Keypair,
    scratch: &Path,
    what: impl FnOnce(&RunState) -> Result<Option<Event>>,
) -> Result<()> {
    let store = BlobStore::open(&scratch.join("store"))?;
    let config = NetworkConfig {
        control_listen: ([0, 0, 0, 0], 0).into(),
        bulk_listen: ([0, 0, 0, 0], 0).into(),
        ..NetworkConfig::default()
    };
    let (network, events) = talkoot_network::start(config.for_member(&link, scratch), &key, store).await?;
    let mut follower =
        Follower::start(network.clone(), events, key, link.run, &scratch.join("ledger")).await?;
    while follower.sync().await? > 0 {}
    if let Some(event) = what(follower.state())? {
        loop {
            match follower.submit(&event).await {
                Submission::Accepted { index } => {
                    tell(&format!("entry {index} of the ledger says so"));
                    break;
                }
                Submission::Refused { reason } => bail!("the run refuses it: {reason}"),
                Submission::Unreachable => tokio::time::sleep(RETRY).await,
            }
        }
    }
    network.shutdown().await;
    Ok(())
}
