//! Joining: a newcomer and a route that know the same token prove their keys to one another.

use std::time::Duration;

use bytes::BytesMut;
use imlink_protocol::link::opening::{HANDSHAKE_LEN_MAX, JOIN_PATTERN, JoinAnswer, Opening, PROLOGUE, RECORD_LEN_MAX};
use imlink_protocol::{VERSION, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::handshake::{Incoming, SealError, accept, builder, encode, message, read, write};
use super::key::{NodeKey, PublicKey};
use super::record::{HEAD_LEN, Opener, Sealer, both};
use super::token::JoinSecret;

/// Longest `why` of a refusal, in bytes.
const WHY_LEN_MAX: usize = 512;
/// How long a newcomer may take its answer.
const LINGER: Duration = Duration::from_secs(2);

/// Enrols `key` as that of the node `name` at the route on the other side.
pub async fn join(
    mut stream: TcpStream,
    role: &str,
    name: &str,
    key: &NodeKey,
    token: &JoinSecret,
) -> Result<(), SealError> {
    let opening = encode(&Opening::Join { version: VERSION, token: token.id, role, name })?;
    let prologue = [PROLOGUE, &opening].concat();
    let builder = builder(JOIN_PATTERN, &prologue)?.local_private_key(key.private())?.psk(0, token.psk())?;
    let mut noise = builder.build_initiator()?;
    stream.set_nodelay(true)?;
    write(&mut stream, &[&opening, &message(&mut noise, &[])?]).await?;
    accept(&mut noise, &read(&mut stream).await?)?;
    write(&mut stream, &[&message(&mut noise, &[])?]).await?;
    let (_, opener) = both(noise.into_stateless_transport_mode()?);
    let answer = read_answer(&mut stream, opener).await?;
    match frame::decode(&answer).map_err(|_| SealError::Opening)? {
        JoinAnswer::Joined => Ok(()),
        JoinAnswer::Refused { why } => Err(SealError::Refused(why.into())),
    }
}

/// A newcomer that proved a token and its key.
pub struct Joining {
    stream: TcpStream,
    sealer: Sealer,
    /// The key that it proved to have.
    pub key: PublicKey,
}

impl Incoming {
    /// Lets a newcomer prove that it has the token, and its key. Without the token no Diffie–Hellman is done.
    pub async fn join(mut self, key: &NodeKey, token: &JoinSecret) -> Result<Joining, SealError> {
        let prologue = [PROLOGUE, &self.opening].concat();
        let builder = builder(JOIN_PATTERN, &prologue)?.local_private_key(key.private())?.psk(0, token.psk())?;
        let mut noise = builder.build_responder()?;
        accept(&mut noise, &read(&mut self.stream).await?)?;
        write(&mut self.stream, &[&message(&mut noise, &[])?]).await?;
        accept(&mut noise, &read(&mut self.stream).await?)?;
        let key = noise.get_remote_static().and_then(|key| key.try_into().ok()).ok_or(SealError::Proof)?;
        let (sealer, _) = both(noise.into_stateless_transport_mode()?);
        Ok(Joining { stream: self.stream, sealer, key: PublicKey(key) })
    }
}

impl Joining {
    /// Tells the newcomer what became of it and closes.
    pub async fn answer(mut self, refusal: Option<&str>) -> Result<(), SealError> {
        let answer = match refusal {
            None => JoinAnswer::Joined,
            Some(why) => {
                let end = (0..=WHY_LEN_MAX.min(why.len())).rev().find(|at| why.is_char_boundary(*at));
                JoinAnswer::Refused { why: end.and_then(|end| why.get(..end)).unwrap_or_default() }
            }
        };
        let mut body = vec![0; WHY_LEN_MAX + HANDSHAKE_LEN_MAX];
        let len = frame::encode_body(&answer, &mut body).map_err(|_| SealError::Opening)?;
        let mut record = Vec::new();
        self.sealer.record(body.get(..len).unwrap_or_default(), &mut record).map_err(|_| SealError::Proof)?;
        self.stream.write_all(&record).await?;
        self.stream.shutdown().await?;
        // Closing at once could take the answer away from a peer that still writes.
        let _ = tokio::time::timeout(LINGER, self.stream.read(&mut [0; 1])).await;
        Ok(())
    }
}

async fn read_answer(stream: &mut TcpStream, mut opener: Opener) -> Result<BytesMut, SealError> {
    let (mut input, mut answer) = (BytesMut::new(), BytesMut::new());
    while answer.is_empty() {
        if input.len() > HEAD_LEN + RECORD_LEN_MAX || stream.read_buf(&mut input).await? == 0 {
            return Err(SealError::Closed);
        }
        opener.open(&mut input, &mut answer).map_err(|_| SealError::Proof)?;
    }
    Ok(answer)
}
