//! From `Hello` to `Welcome`.

use super::clock::ServerTime;
use super::error::SessionError;
use super::live::Live;
use super::output::Event;
use super::retry::End;
use super::session::{Session, State};
use super::start::{LinkKind, Profile};
use crate::id::Cursor;
use crate::limits::RECEIVE_LIMIT_MIN;
use crate::message::{Hello, ToDevice, Welcome};
use crate::seal::Claim;
use crate::time::Instant;

impl Session {
    pub(super) fn hello<'a>(&'a self, cursor: Cursor, profile: &Profile<'a>) -> Hello<'a> {
        // On a sealed link the handshake said and proved who comes.
        let (tenant, device, claim, ticket) = match profile.link {
            LinkKind::Sealed => ("", "", Claim { incarnation: 0, attempt: 0 }, &[][..]),
            LinkKind::Plain => {
                let ticket = self.retry.ticket().map_or(&[][..], |(_, ticket)| ticket);
                (profile.tenant, profile.device, self.claim(), ticket)
            }
        };
        Hello {
            version: crate::VERSION,
            tenant,
            device,
            incarnation: claim.incarnation,
            attempt: claim.attempt,
            epoch: self.epoch,
            cursor,
            receive_limit: profile.receive_limit,
            window: profile.window,
            fingerprint: profile.fingerprint,
            event_queue: self.event_queue,
            ticket,
        }
    }

    pub(super) fn handle_greeting<'a>(
        &mut self,
        now: Instant,
        since: Instant,
        frame: &ToDevice<'a>,
    ) -> Result<Option<Event<'a>>, SessionError> {
        match *frame {
            ToDevice::Welcome(ref welcome) => self.handle_welcome(now, since, welcome).map(Some),
            ToDevice::Redirect { address, grant } if !self.retry.is_at_home() => {
                self.retry.handle_redirect(now, address, grant)?;
                Ok(Some(self.end_by_peer(now, End::Redirected, 0)))
            }
            ToDevice::Reject { code, retry_after_s } => {
                Ok(Some(self.end_by_peer(now, End::Rejected(code), retry_after_s)))
            }
            ToDevice::GoAway { reason, reconnect_after_s } => {
                Ok(Some(self.end_by_peer(now, End::Asked(reason), reconnect_after_s)))
            }
            _ => Err(self.out_of_order(frame)),
        }
    }

    fn handle_welcome(
        &mut self,
        now: Instant,
        since: Instant,
        welcome: &Welcome<'_>,
    ) -> Result<Event<'static>, SessionError> {
        if welcome.epoch <= self.epoch {
            return Err(SessionError::Epoch { given: welcome.epoch, last: self.epoch });
        }
        if (welcome.frame_limit as usize) < RECEIVE_LIMIT_MIN {
            return Err(SessionError::FrameLimit { given: welcome.frame_limit });
        }
        // All of it is looked at before any of it counts: the caller hears nothing of a session that did not open, and
        // keeps what it kept.
        self.mailbox.check_welcome(welcome.generation)?;
        self.events.check_welcome(welcome.event_position)?;
        if !welcome.grant.is_empty() {
            self.retry.handle_grant(now, welcome.grant)?;
        }
        self.mailbox.handle_welcome(welcome.generation);
        let stored = self.events.handle_welcome(welcome.event_position, welcome.event_window);
        self.retry.handle_welcome();
        self.epoch = welcome.epoch;
        let is_running = self.mailbox.is_running();
        let round_trip_ms = now.millis_since(since);
        // Of another server perhaps, whose clock is another one.
        self.time = Some(ServerTime::new(now, welcome.time_ms, round_trip_ms));
        let live = Live::new(now, round_trip_ms, welcome, is_running, &mut self.pace);
        self.state = State::Attached(live, None);
        Ok(Event::Attached { epoch: welcome.epoch, keep: usize::from(is_running), stored, time_ms: welcome.time_ms })
    }
}
