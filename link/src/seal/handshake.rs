//! The handshake of a link, and what both handshakes share.

use std::io;

use imlink_protocol::link::opening::{HANDSHAKE_LEN_MAX, LINK_PATTERN, Opening, PROLOGUE};
use imlink_protocol::{VERSION, frame};
use imlink_seal::Resolver;
use snow::{Builder, HandshakeState};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::key::{NodeKey, PublicKey};
use super::record::HEAD_LEN;
use crate::{Link, sealed};

/// Why two nodes did not come to a sealed link.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The stream broke.
    #[error("the connection broke: {0}")]
    Io(io::Error),
    /// The peer closed in the middle.
    #[error(
        "the peer closed during the handshake: it does not know this node's key, name or token (`imlink node list`)"
    )]
    Closed,
    /// What came is longer than any handshake message.
    #[error("the peer sent a handshake message of {0} bytes, at most {HANDSHAKE_LEN_MAX} are taken")]
    TooLong(usize),
    /// The first record is no opening.
    #[error("the peer sent no opening of a node link")]
    Opening,
    /// Another version.
    #[error("the peer speaks version {0} of the node link, here it is {VERSION}: use one release")]
    Version(u8),
    /// The handshake does not fit.
    #[error("the handshake does not fit: the peer has another key, name or token than it says, or was tampered with")]
    Proof,
    /// A join was refused.
    #[error("the route refuses: {0}")]
    Refused(String),
}

impl From<io::Error> for SealError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

impl From<snow::Error> for SealError {
    fn from(_: snow::Error) -> Self {
        Self::Proof
    }
}

/// Links the IM-server `server` to the route `route` that has `peer`.
pub async fn connect(
    mut stream: TcpStream,
    server: &str,
    route: &str,
    key: &NodeKey,
    peer: &PublicKey,
    outbox_len_max: usize,
) -> Result<Link, SealError> {
    let opening = encode(&Opening::Link { version: VERSION, server, route })?;
    let prologue = [PROLOGUE, &opening].concat();
    let builder = builder(LINK_PATTERN, &prologue)?.local_private_key(key.private())?.remote_public_key(&peer.0)?;
    let mut noise = builder.build_initiator()?;
    stream.set_nodelay(true)?;
    write(&mut stream, &[&opening, &message(&mut noise, &[])?]).await?;
    accept(&mut noise, &read(&mut stream).await?)?;
    Ok(sealed(stream, noise.into_stateless_transport_mode()?, outbox_len_max)?)
}

/// A connection of a node whose opening was read. Nothing of it is proven.
pub struct Incoming {
    pub(super) stream: TcpStream,
    pub(super) opening: Vec<u8>,
}

impl Incoming {
    /// Reads the opening of a node that connected. Sets `TCP_NODELAY`.
    pub async fn read(mut stream: TcpStream) -> Result<Self, SealError> {
        stream.set_nodelay(true)?;
        let opening = read(&mut stream).await?;
        let incoming = Self { stream, opening };
        let (Opening::Link { version, .. } | Opening::Join { version, .. }) = incoming.opening()?;
        if version == VERSION { Ok(incoming) } else { Err(SealError::Version(version)) }
    }

    /// What the node says of itself.
    pub fn opening(&self) -> Result<Opening<'_>, SealError> {
        frame::decode(&self.opening).map_err(|_| SealError::Opening)
    }

    /// Links with the node, which must have `peer`. The link proves it: its first record can't be sealed by another.
    pub async fn link(mut self, key: &NodeKey, peer: &PublicKey, outbox_len_max: usize) -> Result<Link, SealError> {
        let prologue = [PROLOGUE, &self.opening].concat();
        let builder = builder(LINK_PATTERN, &prologue)?.local_private_key(key.private())?.remote_public_key(&peer.0)?;
        let mut noise = builder.build_responder()?;
        accept(&mut noise, &read(&mut self.stream).await?)?;
        write(&mut self.stream, &[&message(&mut noise, &[])?]).await?;
        Ok(sealed(self.stream, noise.into_stateless_transport_mode()?, outbox_len_max)?)
    }
}

pub(super) fn builder<'a>(pattern: &str, prologue: &'a [u8]) -> Result<Builder<'a>, SealError> {
    Ok(Builder::with_resolver(pattern.parse()?, Box::new(Resolver)).prologue(prologue)?)
}

pub(super) fn encode(opening: &Opening<'_>) -> Result<Vec<u8>, SealError> {
    let mut out = vec![0; HANDSHAKE_LEN_MAX];
    let len = frame::encode_body(opening, &mut out).map_err(|_| SealError::Opening)?;
    out.truncate(len);
    Ok(out)
}

/// The next message of the handshake.
pub(super) fn message(noise: &mut HandshakeState, payload: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut out = vec![0; HANDSHAKE_LEN_MAX];
    let len = noise.write_message(payload, &mut out)?;
    out.truncate(len);
    Ok(out)
}

/// Takes the peer's next message; payloads are empty.
pub(super) fn accept(noise: &mut HandshakeState, message: &[u8]) -> Result<(), SealError> {
    let mut payload = [0; HANDSHAKE_LEN_MAX];
    match noise.read_message(message, &mut payload)? {
        0 => Ok(()),
        _ => Err(SealError::Proof),
    }
}

/// Writes records in one go.
pub(super) async fn write(stream: &mut TcpStream, records: &[&[u8]]) -> Result<(), SealError> {
    let mut out = Vec::new();
    for record in records {
        out.extend_from_slice(&u16::try_from(record.len()).map_err(|_| SealError::Opening)?.to_be_bytes());
        out.extend_from_slice(record);
    }
    Ok(stream.write_all(&out).await?)
}

/// Reads a record of a handshake and not a byte behind it.
pub(super) async fn read(stream: &mut TcpStream) -> Result<Vec<u8>, SealError> {
    let mut head = [0; HEAD_LEN];
    stream.read_exact(&mut head).await?;
    let len = usize::from(u16::from_be_bytes(head));
    if len > HANDSHAKE_LEN_MAX {
        return Err(SealError::TooLong(len));
    }
    let mut record = vec![0; len];
    stream.read_exact(&mut record).await?;
    Ok(record)
}
