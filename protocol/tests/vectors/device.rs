//! Device and IM-server.

use imlink_protocol::blob::{Ack, Action, Chunk, Done, Kind, Open, Outcome};
use imlink_protocol::message::{Code, Flags, GoAwayReason, Hello, RejectCode, Welcome};
use imlink_protocol::{Fingerprint, FromDevice, MessageId, ToDevice};

use crate::{ID, KEY, PAYLOAD, Vectors, begins, comes};

comes!(FromDevice, ToDevice);

fn hello() -> Hello<'static> {
    Hello {
        version: 1,
        tenant: "-",
        device: "lamp-1",
        incarnation: 0x0123_4567_89ab_cdef,
        attempt: 1,
        epoch: 0,
        cursor: MessageId::new(0, 0),
        receive_limit: 509,
        window: 8,
        fingerprint: Fingerprint::NONE,
        event_queue: 0x0fed_cba9_8765_4321,
        ticket: b"",
    }
}

/// Also of a sealed link, with a grant of its own.
pub(crate) const WELCOME: Welcome<'static> = Welcome {
    epoch: 8,
    generation: ID.generation,
    heartbeat_s: 300,
    frame_limit: 4096,
    event_window: 16,
    event_position: 5,
    time_ms: 1_764_000_123_456,
    grant: GRANT,
};

/// A key, and a ticket.
const GRANT: &[u8] = b"key key key key key key key key ticket";

/// An image with the hash and signature of nothing real.
pub(crate) fn blob_open(transfer: u32) -> Open<'static> {
    Open {
        transfer,
        action: Action::Give,
        kind: Kind::Firmware,
        name: "app-1.2.0",
        size: 81_920,
        sha256: [0xaa; 32],
        signature: &[0x55; 64],
    }
}

fn chunk(offset: u32) -> Chunk<'static> {
    Chunk { transfer: 2, offset, bytes: PAYLOAD }
}

#[test]
fn from_device() {
    let again = Hello {
        attempt: 2,
        epoch: 7,
        cursor: ID,
        fingerprint: Fingerprint([0xf0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xff]),
        ticket: b"ticket",
        ..hello()
    };
    let reply = |status, payload| FromDevice::Reply { request: 3, status, payload };
    let found = Open { kind: Kind::File, name: "core-dump", signature: b"", ..blob_open(2) };
    let mut vectors = Vectors::default()
        .add("hello-first", &FromDevice::Hello(hello()))
        .add("hello-again-with-ticket", &FromDevice::Hello(again))
        .add("ping", &FromDevice::Ping { next_ms: 300_000 })
        .add("busy", &FromDevice::Busy)
        .add("ack", &FromDevice::Ack { sequence: 42 })
        .add("ack-largest", &FromDevice::Ack { sequence: (1 << 53) - 1 })
        .add("nack", &FromDevice::Nack { sequence: 42, code: Code(300) })
        .add("generation", &FromDevice::Generation { generation: ID.generation })
        .add("reply", &reply(Code::OK, PAYLOAD))
        .add("reply-deadline", &reply(Code::DEADLINE, b""))
        .add("event", &FromDevice::Event { sequence: 5, key: KEY, payload: PAYLOAD })
        .add("event-of-200-bytes", &FromDevice::Event { sequence: 6, key: KEY, payload: &[0xee; 200] })
        .add("interface", &FromDevice::Interface { offset: 0, total: 300, chunk: &[1, 2, 3] })
        .add("bye", &FromDevice::Bye)
        .add("blob-open", &FromDevice::BlobOpen(found))
        .add("blob-chunk", &FromDevice::BlobChunk(chunk(200)))
        .add("blob-ack-takes-part", &FromDevice::BlobAck(Ack { transfer: 0, offset: 0, limit: 4096 }))
        .add("blob-ack", &FromDevice::BlobAck(Ack { transfer: 2, offset: 8192, limit: 12_288 }));
    for outcome in Outcome::ALL {
        let detail = if *outcome == Outcome::TooLarge { 100_000 } else { 0 };
        let done = FromDevice::BlobDone(Done { transfer: 2, outcome: *outcome, detail });
        vectors = vectors.add(&format!("blob-done-{}", outcome.name()), &done);
    }
    vectors.check("from-device.txt", |bytes| begins::<FromDevice<'_>>(bytes));
}

#[test]
fn to_device() {
    let message = |flags, expiry_ms| ToDevice::Message { sequence: 42, key: KEY, expiry_ms, flags, payload: PAYLOAD };
    let mut vectors = Vectors::default()
        .add("welcome", &ToDevice::Welcome(WELCOME))
        .add("welcome-without-grant", &ToDevice::Welcome(Welcome { grant: b"", ..WELCOME }))
        .add("redirect", &ToDevice::Redirect { address: "10.0.0.1:7001", grant: GRANT })
        .add("pong", &ToDevice::Pong { now_ms: 300_012 })
        .add("probe", &ToDevice::Probe)
        .add("message", &message(Flags::NONE, 0))
        .add("message-redelivered-with-expiry", &message(Flags::REDELIVERED, 60_000))
        .add("generation", &ToDevice::Generation { generation: ID.generation + 1 })
        .add("call", &ToDevice::Call { request: 3, key: KEY, deadline_ms: 305_000, payload: PAYLOAD })
        .add("cancel", &ToDevice::Cancel { request: 3 })
        .add("event-ack", &ToDevice::EventAck { sequence: 6 })
        .add("describe", &ToDevice::Describe { offset: 256 })
        .add("grant", &ToDevice::Grant { grant: GRANT });
    let wanted =
        Open { action: Action::Want, kind: Kind::File, size: 0, sha256: [0; 32], signature: b"", ..blob_open(2) };
    let blobs = [
        ("blob-open", ToDevice::BlobOpen(blob_open(1))),
        ("blob-open-wanted", ToDevice::BlobOpen(wanted)),
        ("blob-chunk", ToDevice::BlobChunk(chunk(0))),
        ("blob-ack", ToDevice::BlobAck(Ack { transfer: 2, offset: 216, limit: 65_536 })),
        ("blob-done", ToDevice::BlobDone(Done { transfer: 2, outcome: Outcome::Stored, detail: 0 })),
    ];
    for code in RejectCode::ALL {
        let reject = ToDevice::Reject { code: *code, retry_after_s: 30 };
        vectors = vectors.add(&format!("reject-{}", code.name()), &reject);
    }
    for reason in GoAwayReason::ALL {
        let go_away = ToDevice::GoAway { reason: *reason, reconnect_after_s: 10 };
        vectors = vectors.add(&format!("go-away-{}", reason.name()), &go_away);
    }
    for (name, frame) in blobs {
        vectors = vectors.add(name, &frame);
    }
    vectors.check("to-device.txt", |bytes| begins::<ToDevice<'_>>(bytes));
}
