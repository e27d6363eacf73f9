//! Backend and route.

use imlink_protocol::link::backend::{Event, Failure, FromBackend, Send, State, ToBackend, Wait};
use imlink_protocol::message::Code;

use crate::{ID, KEY, PAYLOAD, Vectors, begins, comes};

comes!(FromBackend, ToBackend);

#[test]
fn from_backend() {
    let send = Send {
        request: 1,
        device: "lamp-1",
        path: "led/set",
        ttl_s: 3600,
        wait: Wait::Stored,
        timeout_ms: 10_000,
        idempotency_key: "",
        payload: PAYLOAD,
    };
    let again = Send { wait: Wait::Acked, idempotency_key: "order-17", ..send };
    let call = FromBackend::Call { request: 2, device: "lamp-1", path: "echo", timeout_ms: 5000, payload: PAYLOAD };
    let subscribe = FromBackend::Subscribe { request: 5, group: "billing", position: "", credit: 256 };
    Vectors::default()
        .add("hello", &FromBackend::Hello { version: 1, token: "token", name: "billing-1", tenant: "" })
        .add(
            "hello-for-a-tenant",
            &FromBackend::Hello { version: 1, token: "token", name: "billing-1", tenant: "acme" },
        )
        .add("send", &FromBackend::Send(send))
        .add("send-wait-acked-idempotent", &FromBackend::Send(again))
        .add("call", &call)
        .add("state", &FromBackend::State { request: 3, device: "lamp-1", id: ID })
        .add("cancel", &FromBackend::Cancel { request: 4, device: "lamp-1", id: ID })
        .add("abandon", &FromBackend::Abandon { request: 1 })
        .add("subscribe", &subscribe)
        .add("credit", &FromBackend::Credit { request: 5, events: 128 })
        .add("commit", &FromBackend::Commit { request: 5, position: "0:17" })
        .add("ping", &FromBackend::Ping)
        .check("from-backend.txt", |bytes| begins::<FromBackend<'_>>(bytes));
}

#[test]
fn to_backend() {
    let event = Event {
        request: 5,
        position: "0:17",
        device: "lamp-1",
        key: KEY,
        path: "telemetry",
        queue: 0x0fed_cba9_8765_4321,
        sequence: 5,
        stored_ms: 1_764_000_123_456,
        payload: PAYLOAD,
    };
    let states = [
        ("waiting", State::Waiting),
        ("sent", State::Sent),
        ("acked", State::Acked),
        ("rejected", State::Rejected { code: Code(300) }),
        ("expired", State::Expired { may_have_run: true }),
        ("cancelled", State::Cancelled),
        ("failed", State::Failed),
        ("unknown", State::Unknown),
    ];
    let mut vectors = Vectors::default()
        .add("welcome", &ToBackend::Welcome { route: "route-1", requests_max: 1024 })
        .add("replied", &ToBackend::Replied { request: 2, status: Code::OK, payload: PAYLOAD })
        .add("event", &ToBackend::Event(event))
        .add("pong", &ToBackend::Pong)
        .add("go-away", &ToBackend::GoAway);
    for (name, state) in states {
        vectors = vectors.add(&format!("message-{name}"), &ToBackend::Message { request: 1, id: ID, state });
    }
    for failure in Failure::ALL {
        let failed = ToBackend::Failed { request: 1, failure: *failure, retry_after_ms: 1000, detail: "why" };
        vectors = vectors.add(&format!("failed-{}", failure.name()), &failed);
    }
    vectors.check("to-backend.txt", |bytes| begins::<ToBackend<'_>>(bytes));
}
