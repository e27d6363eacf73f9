//! The device's end of a session.
//!
//! ```text
//! session     Session: one device's way through connections, from boot to power-off
//! start       what it is told once
//! greeting    from Hello to Welcome
//! application what the application tells it
//! live        what it holds only while attached
//! output      what comes out of it
//! mailbox     which messages are new, what is acknowledged, in which generation
//! calls       calls that are known and not answered
//! events      numbering, window, resend of the event queue
//! heartbeat   when to give a sign of life, when the server counts as dead
//! pace        which interval heartbeats have
//! clock       the session clock, never behind the server's
//! retry       where to connect next and when
//! ```
//!
//! [`Session`] holds no payload: messages and calls come out of
//! [`handle_frame`](Session::handle_frame) borrowed from the frame and are kept by the caller, replies
//! and events stay with the caller until [`poll_transmit`](Session::poll_transmit) asks for them.

mod application;
mod calls;
mod clock;
mod error;
mod events;
mod greeting;
mod heartbeat;
mod live;
mod mailbox;
mod output;
mod pace;
mod retry;
mod session;
mod start;
#[cfg(test)]
mod tests;

pub use calls::CallEnded;
pub use error::SessionError;
pub use events::EventRange;
pub use mailbox::NacksFull;
pub use output::{Event, StateName, Transmit};
pub use pace::Pacing;
pub use retry::{End, Target};
pub use session::Session;
pub use start::{LinkKind, Profile, Start};
