//! Requests and answers on the wire: a length of four bytes, big-endian, and so many bytes. What they mean is the callers' matter.

use std::{io, sync::Arc};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{StreamProtocol, request_response::Codec};
use tokio::sync::Semaphore;

use crate::signal;

/// Longest request, in bytes. Requests are small signed messages; anything above 16 KiB should be a blob, the rest is room.
pub const MAX_REQUEST_BYTES: usize = 256 * 1024;
/// Longest answer, in bytes: 1 MiB for a page of ledger entries, and 1 KiB around it.
pub const MAX_RESPONSE_BYTES: usize = 1024 * 1024 + 1024;
/// Name of the protocol, with its version.
pub(crate) const RPC_PROTOCOL: StreamProtocol = StreamProtocol::new("/talkoot/rpc/1");
/// Name of the networks' own protocol, with its version.
pub(crate) const SIGNAL_PROTOCOL: StreamProtocol = StreamProtocol::new("/talkoot/signal/1");

/// How much is allocated before the first byte has come, in bytes: a length is cheap to claim.
const FIRST_ALLOCATION: usize = 16 * 1024;

/// Requests up to this length are read whatever else is waiting, in bytes.
const SMALL_BYTES: usize = 4 * 1024;
/// What all longer requests that are coming in may take together, in bytes: whoever sends half a request and waits takes
/// from this, not from the machine.
const ALL_REQUESTS_BYTES: usize = 64 << 20;
/// Bytes read between two looks at what is left of that.
const PART_BYTES: usize = 16 * 1024;

/// Codec of opaque bytes.
#[derive(Debug, Clone)]
pub(crate) struct OpaqueCodec {
    max_request_bytes: usize,
    max_response_bytes: usize,
    room: Arc<Semaphore>,
}

impl OpaqueCodec {
    /// For requests between owners.
    pub(crate) fn rpc() -> Self {
        Self::new(MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES)
    }

    /// For signals.
    pub(crate) fn signal() -> Self {
        Self::new(signal::MAX_BYTES, signal::MAX_BYTES)
    }

    fn new(max_request_bytes: usize, max_response_bytes: usize) -> Self {
        Self { max_request_bytes, max_response_bytes, room: Arc::new(Semaphore::new(ALL_REQUESTS_BYTES)) }
    }
}

async fn read_length<T: AsyncRead + Unpin + Send>(io: &mut T, max_bytes: usize) -> io::Result<usize> {
    let mut prefix = [0; 4];
    io.read_exact(&mut prefix).await?;
    let claimed = u32::from_be_bytes(prefix);
    usize::try_from(claimed).ok().filter(|length| *length <= max_bytes).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a frame of {claimed} bytes is announced, at most {max_bytes} are taken"),
        )
    })
}

/// Reads a frame; what is beyond [`SMALL_BYTES`] takes `room` as it comes, until the frame is whole.
async fn read_frame<T: AsyncRead + Unpin + Send>(
    io: &mut T,
    max_bytes: usize,
    room: &Semaphore,
) -> io::Result<Vec<u8>> {
    let length = read_length(io, max_bytes).await?;
    let mut body = Vec::with_capacity(length.min(FIRST_ALLOCATION));
    let mut taken = Vec::new();
    while body.len() < length {
        let part = (length - body.len()).min(PART_BYTES);
        if body.len() + part > SMALL_BYTES {
            let permits = u32::try_from(part).map_err(io::Error::other)?;
            let place = room.try_acquire_many(permits);
            taken.push(place.map_err(|_| io::Error::other("too many requests are coming in"))?);
        }
        let before = body.len();
        io.take(part as u64).read_to_end(&mut body).await?;
        if body.len() - before < part {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the stream ended after {} of {length} bytes", body.len()),
            ));
        }
    }
    Ok(body)
}

async fn write_frame<T: AsyncWrite + Unpin + Send>(io: &mut T, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a frame is shorter than 4 GiB"))?;
    io.write_all(&length.to_be_bytes()).await?;
    io.write_all(body).await?;
    io.flush().await
}

impl Codec for OpaqueCodec {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        // libp2p tells nobody when a request cannot be read; one that is too long arrives as an empty one, which no member
        // sends, so that its sender is known
        match read_frame(io, self.max_request_bytes, &self.room).await {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Vec::new()),
            read => read,
        }
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        // answers are asked for, so their number is ours to bound
        let unbounded = Semaphore::new(self.max_response_bytes);
        read_frame(io, self.max_response_bytes, &unbounded).await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, body: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write_frame(io, &body).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, body: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write_frame(io, &body).await
    }
}

#[cfg(test)]
mod tests {
    use futures::{executor::block_on, io::Cursor};
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8], max_bytes: usize) -> io::Result<Vec<u8>> {
        block_on(read_frame(&mut Cursor::new(bytes), max_bytes, &Semaphore::new(ALL_REQUESTS_BYTES)))
    }

    fn written(body: &[u8]) -> Vec<u8> {
        let mut sink = Cursor::new(Vec::new());
        block_on(write_frame(&mut sink, body)).unwrap();
        sink.into_inner()
    }

    #[test]
    fn a_frame_is_refused_by_its_length_alone() {
        let error = read(&u32::MAX.to_be_bytes(), MAX_REQUEST_BYTES).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("4294967295"), "{error}");
        assert!(read(&written(&[7; 100]), 100).is_ok());
        assert_eq!(read(&written(&[7; 101]), 100).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn long_requests_share_a_bounded_room_and_short_ones_need_none() {
        let room = Semaphore::new(20_000);
        let frame = |length| block_on(read_frame(&mut Cursor::new(written(&vec![1; length])), 70_000, &room));
        assert!(frame(20_000).is_ok());
        assert!(frame(20_000).is_ok(), "the first one gave its room back");
        assert!(frame(40_000).unwrap_err().to_string().contains("too many requests"));
        let _all = room.try_acquire_many(20_000).unwrap();
        let frame = |length| block_on(read_frame(&mut Cursor::new(written(&vec![1; length])), 70_000, &room));
        assert!(frame(SMALL_BYTES + 1).is_err());
        assert!(frame(SMALL_BYTES).is_ok());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(body in prop::collection::vec(any::<u8>(), 0..70_000)) {
            prop_assert_eq!(read(&written(&body), 70_000).unwrap(), body);
        }

        #[test]
        fn a_cut_frame_is_an_early_end(body in prop::collection::vec(any::<u8>(), 1..300), cut in 0.0..1.0) {
            let mut bytes = written(&body);
            bytes.truncate((bytes.len() as f64 * cut) as usize);
            prop_assert_eq!(read(&bytes, 300).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes, 200);
        }
    }
}
