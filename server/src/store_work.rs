//! Work for the store that arises on an I/O thread.
//!
//! A future is polled once where it arises: with the memory store it is ready and its result is handled in
//! the same round of the loop, without another thread. One that has to wait goes to the runtime and comes
//! back through the inbox. Both ways end in the same [`Done`].

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use imlink_protocol::id::{Epoch, Fingerprint};
use imlink_seal::LoginRead;
use imlink_store::event::{EventBatch, EventsStored};
use imlink_store::mailbox::{Acknowledge, Page};
use imlink_store::session::{Attached, Head, Identity, Reasserted};
use imlink_store::{DeviceKey, Error};
use thin_vec::ThinVec;
use tokio::runtime::Handle;

use crate::batches::Asserted;
use crate::conn::{ConnId, Report};
use crate::inbox::{Command, Inbox};

/// A finished piece of store work.
pub(crate) enum Done {
    /// `attach`, preceded by `identity` when the device came without a ticket.
    Attached { conn: ConnId, device: DeviceKey, result: Result<Attached, Error> },
    /// `identity`, of a device that logs in.
    Identified { conn: ConnId, name: DeviceKey, read: Box<LoginRead>, result: Result<Option<Identity>, Error> },
    /// `read_mailbox`.
    Read { conn: ConnId, result: Result<Option<Page>, Error> },
    /// `acknowledge`, and what to tell the routes now that it is written.
    Acknowledged { acks: Vec<Acknowledge>, reports: Vec<ThinVec<Report>>, result: Result<(), Error> },
    /// `append_events`.
    Events { batches: Vec<(ConnId, EventBatch)>, result: Result<Vec<EventsStored>, Error> },
    /// `heads`.
    Heads { conns: Vec<ConnId>, result: Result<Vec<Head>, Error> },
    /// `reassert`.
    Reasserted { asked: Asserted, result: Result<Vec<Reasserted>, Error> },
    /// `detach`.
    Detached { device: DeviceKey, epoch: Epoch, result: Result<bool, Error> },
    /// `interface`.
    Interface { tenant: String, fingerprint: Fingerprint, result: Result<Option<Bytes>, Error> },
    /// `put_interface`.
    InterfacePut { tenant: String, fingerprint: Fingerprint, interface: Bytes, result: Result<(), Error> },
}

/// Polls `work` once; what is not ready goes on in the runtime and ends in `inbox`.
pub(crate) fn start(
    work: impl Future<Output = Done> + Send + 'static,
    runtime: &Handle,
    inbox: &Inbox,
    ready: &mut Vec<Done>,
) {
    let mut work: Pin<Box<dyn Future<Output = Done> + Send>> = Box::pin(work);
    let polled = {
        // Work that waits for time or sockets needs the runtime from its first poll on.
        let _entered = runtime.enter();
        work.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    };
    match polled {
        Poll::Ready(done) => ready.push(done),
        Poll::Pending => {
            let inbox = inbox.clone();
            runtime.spawn(async move { inbox.put(Command::Done(work.await)) });
        }
    }
}
