//! Attaches: a device that shows a ticket.

use imlink_protocol::limits::TICKET_LEN_MAX;
use imlink_protocol::seal::{ATTACH_PATTERN, ATTACH_PROLOGUE, Claim};
use imlink_protocol::ticket::{self, TicketError, TicketKey};
use imlink_protocol::{Epoch, KeyMark, VERSION};

use crate::crypto::Resolver;
use crate::{Answered, Refused};

/// An attach whose ticket and first message open, without a Diffie–Hellman. Either may be a replay.
pub struct AttachRead {
    /// Tenant.
    pub tenant: String,
    /// Device id.
    pub device: String,
    /// The session to come has a larger epoch than this.
    pub epoch_floor: Epoch,
    /// The key that the ticket was given for.
    pub key: KeyMark,
    /// Which connection it claims to be.
    pub claim: Claim,
    noise: snow::HandshakeState,
}

impl AttachRead {
    /// Opens `ticket` by the server's keys of the day, and the first message by the ticket's key.
    pub fn new(ticket: &[u8], message: &[u8], keys: &[(u32, TicketKey)], now_s: u64) -> Result<Self, Refused> {
        let mut room = [0; TICKET_LEN_MAX];
        let (said, key) = ticket::open(ticket, keys, now_s, &mut room).map_err(|error| match error {
            TicketError::Forged => Refused::Ticket,
            TicketError::Expired => Refused::Expired,
        })?;
        // A ticket of a plain link has no key: nobody could be proved by it.
        if said.is_plain {
            return Err(Refused::Ticket);
        }
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, ticket);
        let prologue = [ATTACH_PROLOGUE, &[VERSION], hash.as_ref()].concat();
        let pattern = ATTACH_PATTERN.parse().map_err(|_| Refused::Handshake)?;
        let builder = snow::Builder::with_resolver(pattern, Box::new(Resolver))
            .prologue(&prologue)
            .and_then(|builder| builder.psk(0, &key));
        let mut noise = builder.and_then(|builder| builder.build_responder()).map_err(|_| Refused::Handshake)?;
        let mut claim = [0; 32];
        let len = noise.read_message(message, &mut claim).map_err(|_| Refused::Handshake)?;
        let claim = postcard::take_from_bytes(claim.get(..len).unwrap_or_default());
        let (claim, []) = claim.map_err(|_| Refused::Handshake)? else { return Err(Refused::Handshake) };
        let (tenant, device) = (said.tenant.to_owned(), said.device.to_owned());
        Ok(Self { tenant, device, epoch_floor: said.epoch_floor, key: said.key, claim, noise })
    }

    /// Answers it; one Diffie–Hellman. Nothing is proved before the first record opens.
    pub fn answer(self) -> Result<Answered, Refused> {
        crate::answer(self.noise)
    }
}
