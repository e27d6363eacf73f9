//! Frames gathered while one batch is worked through: each peer then gets one lock, one wake and, most
//! often, one write for all of them.

use imlink_link::{SendError, Sender, encode_onto};
use serde::Serialize;

/// What one task has for its peers. Empty between batches.
#[derive(Default)]
pub(crate) struct Outgoing {
    peers: Vec<Peer>,
}

struct Peer {
    sender: Sender,
    frames: Vec<u8>,
}

impl Outgoing {
    /// Encodes `message` for `to`. An error means that the message is longer than a frame may be.
    pub(crate) fn put<T: Serialize>(&mut self, to: &Sender, message: &T) -> Result<(), SendError> {
        let at = match self.peers.iter().position(|peer| peer.sender.is_same(to)) {
            Some(at) => at,
            None => {
                self.peers.push(Peer { sender: to.clone(), frames: Vec::new() });
                self.peers.len() - 1
            }
        };
        let Some(peer) = self.peers.get_mut(at) else { return Ok(()) };
        encode_onto(message, &mut peer.frames)?;
        if peer.frames.len() > FLUSH_LEN {
            peer.flush();
        }
        Ok(())
    }

    /// Hands everything over.
    pub(crate) fn flush(&mut self) {
        self.peers.iter_mut().for_each(Peer::flush);
        if self.peers.len() > PEERS_KEPT_MAX {
            self.peers.clear();
        }
        self.peers.retain(|peer| !peer.sender.is_closed());
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.flush();
    }
}

impl Peer {
    fn flush(&mut self) {
        if self.frames.is_empty() {
            return;
        }
        // A full outbox is a peer that does not read. Its link ends, and with it every doubt about what it
        // got: a server then compares all of its mailboxes, a backend asks again.
        if let Err(SendError::Full { .. }) = self.sender.send_encoded(&self.frames) {
            self.sender.close();
        }
        self.frames.clear();
        if self.frames.capacity() > 4 * FLUSH_LEN {
            self.frames = Vec::new();
        }
    }
}

/// Bytes gathered for one peer before they go although the batch is not done.
const FLUSH_LEN: usize = 64 * 1024;
/// Peers whose buffer is kept between batches.
const PEERS_KEPT_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use imlink_link::pair;
    use imlink_protocol::frame;

    #[tokio::test]
    async fn messages_reach_their_peers_in_order_when_flushed() {
        let (one, mut one_peer) = pair(1024);
        let (two, mut two_peer) = pair(1024);
        let mut out = Outgoing::default();
        for number in 0..10u32 {
            let to = if number % 2 == 0 { &one.sender } else { &two.sender };
            out.put(to, &number).unwrap();
        }
        assert_eq!(one.sender.waiting(), 0);
        out.flush();
        for (peer, first) in [(&mut one_peer, 0u32), (&mut two_peer, 1)] {
            let batch = peer.receiver.receive().await.unwrap().unwrap();
            let numbers: Vec<u32> = batch.frames().map(|body| frame::decode(body.unwrap()).unwrap()).collect();
            assert_eq!(numbers, (0..5).map(|i| first + 2 * i).collect::<Vec<_>>());
        }
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_loses_its_link() {
        let (here, _there) = pair(16);
        let mut out = Outgoing::default();
        for _ in 0..2 {
            out.put(&here.sender, &[7u8; 32]).unwrap();
            out.flush();
        }
        assert!(here.sender.is_closed());
    }
}
