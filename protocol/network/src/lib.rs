//! How bytes travel: libp2p control plane, quinn bulk plane, the blob store and swarm.
