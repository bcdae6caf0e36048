//! Members of a run that goes on, asked by a stranger: for the newest checkpoint that each holds, and for blobs.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use talkoot_network::{BlobStore, Network, NetworkConfig, NetworkError, NetworkEvent, StoreError};
use talkoot_protocol::{
    digest::BlobRef,
    identity::{Keypair, MemberId},
    link::JoinLink,
    message::{Request, Response},
};
use tokio::{runtime::Runtime, sync::mpsc::Receiver};

use super::{BlobSource, Seen};

/// How long others are met before they are asked.
const MEET: Duration = Duration::from_secs(5);

/// How long nobody at all may be met.
const NOBODY: Duration = Duration::from_secs(30);

/// How long a small blob may take to come; large ones longer. Whoever has it says so in a second; for one that nobody has any
/// more, a buffer that was not archived, all of this is waited.
const FETCH: Duration = Duration::from_secs(10);

/// The slowest line that is waited for, in bytes a second.
const SLOWEST: u64 = 32 * 1024;

/// A stranger's connection to a run.
#[derive(Debug)]
pub struct Peers {
    runtime: Runtime,
    network: Network,
    store: BlobStore,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeersError {
    /// The system gives no threads or timers.
    #[error("no runtime for the network: {0}")]
    Runtime(#[from] io::Error),
    /// The folder for fetched blobs.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Nobody answers.
    #[error("nobody of the run can be met within {} s; is the link an old one?", NOBODY.as_secs())]
    Nobody,
}

impl Peers {
    /// Meets the run that `link` names, under a key that is used once. What is fetched lies below `scratch` until it is copied.
    ///
    /// # Errors
    ///
    /// [`PeersError`] when nobody can be met.
    pub fn meet(link: &JoinLink, key: &Keypair, scratch: &Path) -> Result<Self, PeersError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let store = BlobStore::open(&scratch.join("store"))?;
        let config = NetworkConfig {
            control_listen: ([0, 0, 0, 0], 0).into(),
            bulk_listen: ([0, 0, 0, 0], 0).into(),
            ..NetworkConfig::default()
        };
        let network = runtime.block_on(async {
            let config = config.for_member(link, scratch);
            let (network, events) = talkoot_network::start(config, key, store.clone()).await?;
            tokio::spawn(serve_nobody(events));
            let began = Instant::now();
            while network.connected().is_empty() {
                if began.elapsed() > NOBODY {
                    return Err(PeersError::Nobody);
                }
                tokio::time::sleep(MEET / 20).await;
            }
            tokio::time::sleep(MEET).await;
            Ok(network)
        })?;
        Ok(Self { runtime, network, store })
    }

    /// The newest checkpoint of everybody who is connected and tells one.
    pub fn heads(&self) -> Vec<Seen> {
        let told = self.network.connected().into_iter().filter_map(|member| {
            let note = self.runtime.block_on(self.head_of(member))?;
            Some(Seen { from: format!("member {}", member.short()), note: note.into_bytes() })
        });
        told.collect()
    }

    async fn head_of(&self, member: MemberId) -> Option<String> {
        let answer = self.network.request(member, Request::Head.to_bytes()).await.ok()?;
        match Response::from_bytes(&answer) {
            Ok(Response::Head { note }) => Some(note),
            _ => None,
        }
    }
}

/// A stranger has nothing to tell.
async fn serve_nobody(mut events: Receiver<NetworkEvent>) {
    while let Some(event) = events.recv().await {
        if let NetworkEvent::Request { reply, .. } = event {
            reply.send(Response::NotServed { reason: "an auditor serves nothing".to_owned() }.to_bytes());
        }
    }
}

impl BlobSource for Arc<Peers> {
    fn copy(&self, blob: &BlobRef, into: &mut dyn Write) -> io::Result<bool> {
        let patience = FETCH.saturating_add(Duration::from_secs(blob.bytes / SLOWEST));
        let fetched =
            self.runtime.block_on(async { tokio::time::timeout(patience, self.network.fetch(*blob)).await });
        match fetched {
            Ok(Ok(())) => {
                let path =
                    self.store.path(&blob.digest).ok_or_else(|| io::Error::other("it came and went"))?;
                io::copy(&mut fs::File::open(path)?, into)?;
                // a second copy is not needed
                let _ = self.store.remove(&blob.digest);
                Ok(true)
            }
            Ok(Err(error)) => Err(io::Error::other(error)),
            // nobody who is connected has it
            Err(_) => Ok(false),
        }
    }
}
