//! Where to connect next, and when.

use core::time::Duration;

use heapless::{String, Vec};

use super::error::SessionError;
use crate::limits::{ADDRESS_LEN_MAX, GRANT_LEN_MAX, RETRY_AFTER_MAX};
use crate::message::{GoAwayReason, RejectCode};
use crate::seal::KEY_LEN;
use crate::time::Instant;

/// Where to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// The IM-server that the device was last assigned, `host:port`.
    Home(&'a str),
    /// A configured route or gateway; counts up with each failure, so that all of them get a turn.
    Route {
        /// To be taken modulo the number of routes.
        turn: u32,
    },
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum End {
    /// Not connected, or no `Welcome` came, or the connection broke.
    Lost,
    /// The server named an IM-server to go to.
    Redirected,
    /// The server refused.
    Rejected(RejectCode),
    /// Somebody said so before anything was proved: the server, or whoever is on the path.
    Refused(RejectCode),
    /// The server asked the device to leave.
    Asked(GoAwayReason),
    /// The server broke a rule or fell silent.
    Fault(SessionError),
    /// The device left by its own will.
    Left,
}

/// Back-off and memory of the IM-server.
///
/// ```text
/// wait      random in 0 … min(1 s · 2^failures, 5 min), plus what the server asked for (at most 1 h)
/// failures  counts connections that ended; back to 0 after 60 s attached
/// no wait   after Redirect, and from a home that refused or is gone to the routes; 4 times in a row
/// ticket    forgotten when a record says so, or after 24 h. A refusal without proof sends the device to a route
///           once, as a home does that is gone; if no route lets it in, the ticket is tried again
/// ```
#[derive(Debug, Default)]
pub(super) struct Retry {
    home: Option<Home>,
    /// The last connection to the home failed: try the routes first.
    is_home_gone: bool,
    is_at_home: bool,
    turn: u32,
    failures: u8,
    hops: u8,
    not_before: Instant,
}

#[derive(Debug)]
struct Home {
    /// Empty for the route that welcomed the device itself: a gateway.
    address: String<ADDRESS_LEN_MAX>,
    /// The ticket's key, and the ticket.
    grant: Vec<u8, GRANT_LEN_MAX>,
    since: Instant,
}

impl Retry {
    pub(super) fn handle_redirect(&mut self, now: Instant, address: &str, grant: &[u8]) -> Result<(), SessionError> {
        let too_long = SessionError::TooLong { frame: "Redirect" };
        let address = String::try_from(address).map_err(|_| too_long)?;
        let grant = Vec::from_slice(grant).map_err(|_| too_long)?;
        self.home = Some(Home { address, grant, since: now });
        Ok(())
    }

    /// A grant of whom the device is attached to. A gateway is a route and a home in one.
    pub(super) fn handle_grant(&mut self, now: Instant, grant: &[u8]) -> Result<(), SessionError> {
        let grant = Vec::from_slice(grant).map_err(|_| SessionError::TooLong { frame: "Grant" })?;
        match &mut self.home {
            Some(home) if self.is_at_home => (home.grant, home.since) = (grant, now),
            home => {
                *home = Some(Home { address: String::new(), grant, since: now });
                self.is_at_home = true;
                self.is_home_gone = false;
            }
        }
        Ok(())
    }

    pub(super) fn handle_connecting(&mut self, now: Instant) {
        self.forget_old_home(now);
        self.is_at_home = self.home.is_some() && !self.is_home_gone;
    }

    pub(super) fn handle_welcome(&mut self) {
        self.hops = 0;
    }

    /// A connection ended after being attached for `attached`; `delay` is what the server asked for.
    pub(super) fn handle_end(
        &mut self,
        now: Instant,
        end: End,
        attached: Option<Duration>,
        delay: Duration,
        random: u32,
    ) {
        if end == End::Left || attached.is_some_and(|attached| attached >= STEADY_AFTER) {
            self.failures = 0;
        }
        let may_hop = delay.is_zero() && self.hops < HOPS_MAX;
        let hops = match end {
            End::Redirected => {
                self.is_home_gone = false;
                true
            }
            _ if self.is_at_home => self.leave_home(end, attached.is_some()),
            _ => {
                // The network may be what is broken, not the home.
                self.is_home_gone = false;
                self.turn = self.turn.wrapping_add(1);
                false
            }
        };
        if hops && may_hop {
            self.hops += 1;
            self.not_before = now;
            return;
        }
        self.hops = 0;
        let window_ms = BACK_OFF_MIN_MS.saturating_mul(1 << self.failures.min(16)).min(BACK_OFF_MAX_MS);
        let jitter_ms = window_ms.saturating_mul(u64::from(random)) >> 32;
        self.failures = self.failures.saturating_add(1);
        self.not_before = now.after(delay.min(RETRY_AFTER_MAX)).after(Duration::from_millis(jitter_ms));
    }

    /// Whether to go on to the routes at once.
    fn leave_home(&mut self, end: End, was_attached: bool) -> bool {
        match end {
            End::Rejected(_) | End::Asked(GoAwayReason::Draining | GoAwayReason::Cut | GoAwayReason::Revoked) => {
                self.home = None;
                !was_attached
            }
            _ => {
                self.is_home_gone = !was_attached;
                !was_attached
            }
        }
    }

    fn forget_old_home(&mut self, now: Instant) {
        if self.home.as_ref().is_some_and(|home| now.since(home.since) >= TICKET_LIFETIME) {
            self.home = None;
        }
    }

    pub(super) fn target(&self, now: Instant) -> Target<'_> {
        match &self.home {
            Some(home) if !self.is_home_gone && !home.address.is_empty() && now.since(home.since) < TICKET_LIFETIME => {
                Target::Home(&home.address)
            }
            _ => Target::Route { turn: self.turn },
        }
    }

    /// The ticket for the connection that is being made, and its key; `None` where none is known.
    pub(super) fn ticket(&self) -> Option<(&[u8; KEY_LEN], &[u8])> {
        self.home.as_ref().filter(|_| self.is_at_home)?.grant.split_first_chunk()
    }

    pub(super) fn is_at_home(&self) -> bool {
        self.is_at_home
    }

    pub(super) fn not_before(&self) -> Instant {
        self.not_before
    }
}

/// Window of the first wait (DESIGN §5).
const BACK_OFF_MIN_MS: u64 = 1000;
/// Window of the longest wait.
const BACK_OFF_MAX_MS: u64 = 300_000;
/// Attached for this long, the next loss counts as the first.
const STEADY_AFTER: Duration = Duration::from_secs(60);
/// A ticket is good for 24 h at its server.
const TICKET_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Connections without a wait between them.
const HOPS_MAX: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u32 = u32::MAX;

    fn at(s: u64) -> Instant {
        Instant::from_millis(s * 1000)
    }

    fn grant(key: u8) -> std::vec::Vec<u8> {
        [&[key; KEY_LEN][..], b"ticket"].concat()
    }

    fn wait_ms(retry: &Retry, now: Instant) -> u128 {
        retry.not_before().since(now).as_millis()
    }

    #[test]
    fn the_window_doubles_from_one_second_to_five_minutes_and_resets_after_a_steady_minute() {
        let mut retry = Retry::default();
        let mut windows = std::vec::Vec::new();
        for _ in 0..11 {
            retry.handle_end(at(0), End::Lost, None, Duration::ZERO, MAX);
            windows.push(wait_ms(&retry, at(0)).div_ceil(1000));
        }
        assert_eq!(windows, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        retry.handle_end(at(0), End::Lost, Some(Duration::from_secs(59)), Duration::ZERO, MAX);
        assert_eq!(wait_ms(&retry, at(0)), 299_999);
        retry.handle_end(at(0), End::Lost, Some(Duration::from_secs(60)), Duration::ZERO, MAX);
        assert_eq!(wait_ms(&retry, at(0)), 999);
        retry.handle_end(at(0), End::Lost, None, Duration::ZERO, 0);
        assert_eq!(wait_ms(&retry, at(0)), 0, "full jitter");
    }

    #[test]
    fn a_delay_asked_for_is_believed_up_to_an_hour() {
        let mut retry = Retry::default();
        let hour = Duration::from_secs(3600);
        for (asked, believed) in [(7, Duration::from_secs(7)), (1 << 30, hour)] {
            retry.handle_end(at(0), End::Rejected(RejectCode::Overloaded), None, Duration::from_secs(asked), 0);
            assert_eq!(retry.not_before().since(at(0)), believed);
        }
    }

    #[test]
    fn a_device_goes_straight_home_and_to_the_routes_when_the_home_is_gone() {
        let mut retry = Retry::default();
        retry.handle_connecting(at(0));
        assert_eq!(retry.ticket(), None);
        retry.handle_redirect(at(0), "10.0.0.1:7", &grant(1)).unwrap();
        retry.handle_end(at(0), End::Redirected, None, Duration::ZERO, MAX);
        assert_eq!((retry.target(at(0)), retry.not_before()), (Target::Home("10.0.0.1:7"), at(0)));
        retry.handle_connecting(at(0));
        retry.handle_welcome();
        retry.handle_grant(at(1), &grant(2)).unwrap();
        retry.handle_end(at(9), End::Lost, Some(Duration::from_secs(9)), Duration::ZERO, MAX);
        assert_eq!(retry.target(at(10)), Target::Home("10.0.0.1:7"));
        retry.handle_connecting(at(10));
        assert_eq!(retry.ticket(), Some((&[2; KEY_LEN], &b"ticket"[..])));
        retry.handle_end(at(10), End::Lost, None, Duration::ZERO, MAX);
        assert_eq!((retry.target(at(10)), retry.not_before()), (Target::Route { turn: 0 }, at(10)));
        // The route does not answer either: perhaps it is the network, so the home is tried again.
        retry.handle_connecting(at(10));
        retry.handle_end(at(10), End::Lost, None, Duration::ZERO, MAX);
        assert_eq!(retry.target(at(12)), Target::Home("10.0.0.1:7"));
        assert_eq!(retry.target(at(24 * 3600 + 1)), Target::Route { turn: 1 }, "the ticket is too old");
    }

    #[test]
    fn a_server_that_drains_or_refuses_is_forgotten() {
        for end in [End::Asked(GoAwayReason::Draining), End::Rejected(RejectCode::Ticket)] {
            let mut retry = Retry::default();
            retry.handle_redirect(at(0), "a:1", &grant(1)).unwrap();
            retry.handle_connecting(at(0));
            retry.handle_end(at(1), end, None, Duration::ZERO, MAX);
            assert_eq!(retry.target(at(1)), Target::Route { turn: 0 });
        }
    }

    #[test]
    fn a_refusal_without_proof_leads_to_one_login_and_the_ticket_is_kept_for_when_that_fails() {
        let refused = End::Refused(RejectCode::Ticket);
        for address in ["a:1", ""] {
            let mut retry = Retry::default();
            retry.handle_redirect(at(0), address, &grant(1)).unwrap();
            retry.handle_connecting(at(0));
            retry.handle_end(at(1), refused, None, Duration::ZERO, MAX);
            assert_eq!((retry.target(at(1)), retry.not_before()), (Target::Route { turn: 0 }, at(1)), "at once");
            retry.handle_connecting(at(1));
            assert_eq!(retry.ticket(), None, "it logs in");
            retry.handle_end(at(1), refused, None, Duration::ZERO, MAX);
            assert!(wait_ms(&retry, at(1)) > 0, "then it waits");
            retry.handle_connecting(at(9));
            assert_eq!(retry.ticket(), Some((&[1; KEY_LEN], &b"ticket"[..])), "{address}");
            retry.handle_end(at(9), refused, None, Duration::ZERO, MAX);
            retry.handle_connecting(at(9));
            assert_eq!(retry.ticket(), None, "and so on in turns");
        }
    }

    #[test]
    fn a_gateway_that_welcomes_is_a_home_to_come_back_to_with_its_ticket() {
        let mut retry = Retry::default();
        retry.handle_end(at(0), End::Lost, None, Duration::ZERO, 0);
        retry.handle_connecting(at(0));
        retry.handle_grant(at(0), &grant(1)).unwrap();
        retry.handle_end(at(9), End::Lost, Some(Duration::from_secs(9)), Duration::ZERO, MAX);
        assert_eq!(retry.target(at(10)), Target::Route { turn: 1 }, "the same one");
        retry.handle_connecting(at(10));
        assert_eq!(retry.ticket(), Some((&[1; KEY_LEN], &b"ticket"[..])));
        retry.handle_end(at(10), End::Rejected(RejectCode::Ticket), None, Duration::ZERO, MAX);
        assert_eq!((retry.target(at(10)), retry.not_before()), (Target::Route { turn: 1 }, at(10)));
        retry.handle_connecting(at(10));
        assert_eq!(retry.ticket(), None, "it logs in anew");
    }

    #[test]
    fn redirects_in_a_row_end_in_a_wait() {
        let mut retry = Retry::default();
        for hop in 0..5 {
            retry.handle_redirect(at(0), "a:1", &grant(1)).unwrap();
            retry.handle_end(at(0), End::Redirected, None, Duration::ZERO, MAX);
            assert_eq!(wait_ms(&retry, at(0)) > 0, hop == 4, "{hop}");
        }
    }
}
