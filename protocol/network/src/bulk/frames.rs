//! Frames on a stream: written whole, and read whole or not at all.

use quinn::{RecvStream, SendStream};
use serde::{Serialize, de::DeserializeOwned};

use super::wire;

/// Bytes of a frame's length.
const LENGTH_BYTES: usize = 2;

/// Writes a message as one frame.
pub(super) async fn write_frame(send: &mut SendStream, message: &impl Serialize) -> Result<(), String> {
    let frame = wire::encode(message).map_err(|error| error.to_string())?;
    send.write_all(&frame).await.map_err(|error| error.to_string())
}

/// Reads one frame; what follows it stays in the stream. What was read of it is lost when this is dropped.
pub(super) async fn read_frame<T: DeserializeOwned>(recv: &mut RecvStream) -> Result<T, String> {
    let mut length = [0; LENGTH_BYTES];
    recv.read_exact(&mut length).await.map_err(|error| error.to_string())?;
    let length = usize::from(u16::from_le_bytes(length));
    wire::check_length(length).map_err(|error| error.to_string())?;
    let mut body = vec![0; length];
    recv.read_exact(&mut body).await.map_err(|error| error.to_string())?;
    wire::decode(&body).map_err(|error| error.to_string())
}

/// One frame after the other, of a stream on which nothing else comes.
#[derive(Debug)]
pub(super) struct Frames<'a> {
    recv: &'a mut RecvStream,
    /// The beginning of a frame whose rest has not come.
    waiting: Vec<u8>,
}

impl<'a> Frames<'a> {
    pub(super) const fn new(recv: &'a mut RecvStream) -> Self {
        Self { recv, waiting: Vec::new() }
    }

    /// The next one; nothing at the end of the stream. Cancel-safe.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, String> {
        loop {
            let mut wanted = LENGTH_BYTES;
            if let Some((length, body)) = self.waiting.split_first_chunk::<LENGTH_BYTES>() {
                let length = usize::from(u16::from_le_bytes(*length));
                wire::check_length(length).map_err(|error| error.to_string())?;
                if body.len() == length {
                    let message = wire::decode(body).map_err(|error| error.to_string());
                    self.waiting.clear();
                    return message.map(Some);
                }
                wanted += length;
            }
            let mut part = [0; wire::MAX_FRAME_BYTES];
            let lacking = (wanted - self.waiting.len()).min(part.len());
            match self.recv.read(&mut part[..lacking]).await.map_err(|error| error.to_string())? {
                Some(got) => self.waiting.extend_from_slice(&part[..got]),
                None if self.waiting.is_empty() => return Ok(None),
                None => return Err("the stream ends within a frame".to_owned()),
            }
        }
    }
}
