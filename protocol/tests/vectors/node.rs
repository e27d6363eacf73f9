//! IM-server and route.

use imlink_protocol::TokenId;
use imlink_protocol::blob::{Ack, BlobFrame, Chunk, Done, Outcome};
use imlink_protocol::link::node::{
    Blob, CallDevice, CallFailure, Deliver, KickOutcome, Load, Register, Registered, ToRoute, ToServer,
};
use imlink_protocol::message::Code;

use crate::{ID, KEY, PAYLOAD, Vectors, begins, comes};

comes!(ToRoute, ToServer);

const DEVICE: &str = "-/lamp-1";

#[test]
fn to_route() {
    let register = Register {
        version: 1,
        incarnation: 0x0123_4567_89ab_cdef,
        device_address: "10.0.0.1:7001",
        plain_address: "",
        capacity: 100_000,
        labels: "zone=eu",
    };
    let load = Load { connections: 1200, queued: 3, cpu_permille: 250, memory_permille: 125, draining: true };
    let not_here = |request, epoch| ToRoute::NotHere { device: DEVICE, request, epoch };
    let kick = ToRoute::Kick { request: 4, device: DEVICE, epoch: 7, server: "im-2", incarnation: 9 };
    let failed = |why| ToRoute::CallFailed { request: 3, why };
    let ack = Ack { transfer: 0, offset: 4096, limit: 8192 };
    let done = Done { transfer: 0, outcome: Outcome::Marked, detail: 0 };
    Vectors::default()
        .add("register", &ToRoute::Register(register))
        .add("load", &ToRoute::Load(load))
        .add("acked", &ToRoute::Acked { device: DEVICE, epoch: 8, id: ID })
        .add("settled", &ToRoute::Settled { device: DEVICE, epoch: 8, id: ID })
        .add("replied", &ToRoute::Replied { request: 3, status: Code::OK, payload: PAYLOAD })
        .add("call-failed-busy", &failed(CallFailure::Busy))
        .add("call-failed-disconnected", &failed(CallFailure::Disconnected))
        .add("call-failed-deadline", &failed(CallFailure::Deadline))
        .add("call-failed-too-large", &failed(CallFailure::TooLarge { max: 475 }))
        .add("call-failed-unknown-path", &failed(CallFailure::UnknownPath))
        .add("not-here-for-deliver", &not_here(0, 0))
        .add("not-here-for-call", &not_here(3, 7))
        .add("kick", &kick)
        .add("kicked", &ToRoute::Kicked { request: 5, closed: true })
        .add("pong", &ToRoute::Pong)
        .add("blob-ack", &ToRoute::Blob { request: 9, frame: BlobFrame::Ack(ack) })
        .add("blob-done", &ToRoute::Blob { request: 9, frame: BlobFrame::Done(done) })
        .check("to-route.txt", |bytes| begins::<ToRoute<'_>>(bytes));
}

#[test]
fn to_server() {
    let registered =
        Registered { route: "route-1", day: 20_416, ticket_key_today: [1; 32], ticket_key_yesterday: [2; 32] };
    let deliver = Deliver {
        device: DEVICE,
        epoch: 8,
        id: ID,
        key: KEY,
        expires_ms: 1_764_000_060_000,
        report: true,
        token: TokenId::NONE,
        payload: PAYLOAD,
    };
    let of_token = Deliver { token: TokenId([0xf1, 0xe2, 0xd3, 0xc4, 0xb5, 0xa6, 0x97, 0x88]), ..deliver };
    let call = CallDevice { request: 3, device: DEVICE, epoch: 8, key: KEY, remaining_ms: 5000, payload: PAYLOAD };
    let done = |outcome| ToServer::KickDone { request: 4, outcome };
    let blob = |frame| ToServer::Blob(Blob { request: 9, device: DEVICE, epoch: 8, frame });
    Vectors::default()
        .add("registered", &ToServer::Registered(registered))
        .add("refused", &ToServer::Refused { why: "proof" })
        .add("deliver", &ToServer::Deliver(deliver))
        .add("deliver-of-a-token", &ToServer::Deliver(of_token))
        .add("call-device", &ToServer::CallDevice(call))
        .add("cancel-call", &ToServer::CancelCall { request: 3 })
        .add("kick", &ToServer::Kick { request: 5, device: DEVICE, epoch: 7, revoked: false })
        .add("kick-done-kicked", &done(KickOutcome::Kicked))
        .add("kick-done-not-here", &done(KickOutcome::NotHere))
        .add("kick-done-gone", &done(KickOutcome::Gone))
        .add("kick-done-unreachable", &done(KickOutcome::Unreachable))
        .add("ping", &ToServer::Ping)
        .add("blob-open", &blob(BlobFrame::Open(crate::device::blob_open(0))))
        .add("blob-chunk", &blob(BlobFrame::Chunk(Chunk { transfer: 0, offset: 4096, bytes: PAYLOAD })))
        .check("to-server.txt", |bytes| begins::<ToServer<'_>>(bytes));
}
