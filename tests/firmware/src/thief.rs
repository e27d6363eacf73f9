//! A server that holds the private keys of a route, stolen, and lies with them: what it says is sealed as it must be.

use std::collections::HashMap;
use std::net::SocketAddr;

use imlink_protocol::key_pair::{LoginKeys, PrivateKey};
use imlink_protocol::limits::{GRANT_LEN_MAX, HELLO_FRAME_LEN_MAX};
use imlink_protocol::message::{FromDevice, ToDevice};
use imlink_protocol::seal::{FromStranger, Records, take};
use imlink_protocol::ticket::{Ticket, TicketKey, grant};
use imlink_protocol::{KeyMark, frame};
use imlink_seal::{Answered, AttachRead, Fast, RouteKeys};
use imlink_tests::node::ROUTE_KEYS;
use imlink_tests::sealed::random;
use serde::Serialize;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::liar::{accept, closed, listen, read, welcome};

/// Day and key of its tickets.
const TICKET_KEYS: [(u32, TicketKey); 1] = [(1, TicketKey([0x71; 32]))];
/// Room for any record here.
const ROOM: usize = 4096;

/// A listener on loopback that holds the keys of the tests' routes.
pub struct Thief {
    listener: TcpListener,
    keys: RouteKeys,
}

/// A board whose first frame has come and waits for its answer.
pub struct Caller {
    stream: TcpStream,
    /// Its first frame as it came.
    pub first: Vec<u8>,
}

/// A board on a sealed link.
pub struct SealedVictim {
    stream: TcpStream,
    input: Vec<u8>,
    records: Records<Fast>,
    /// The board's `Hello` as it came: a record.
    pub hello: Vec<u8>,
}

impl Thief {
    /// Listens on a free port.
    ///
    /// # Panics
    /// When there is none.
    pub async fn bind() -> Self {
        let [current, next] = ROUTE_KEYS.map(PrivateKey::new);
        let keys = RouteKeys::new(&LoginKeys { current, next }, HashMap::new()).expect("keys of X25519");
        Self { listener: listen().await, keys }
    }

    /// Where boards connect.
    ///
    /// # Panics
    /// Never: the listener is bound.
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("a bound listener has an address")
    }

    /// The next connection, once its first frame has come.
    ///
    /// # Panics
    /// When none comes within 50 s.
    pub async fn accept(&self) -> Caller {
        let mut stream = accept(&self.listener).await;
        let mut first = Vec::new();
        while take(&first, HELLO_FRAME_LEN_MAX).expect("the board sends frames").is_none() {
            read(&mut stream, &mut first).await;
        }
        Caller { stream, first }
    }

    /// The right answer to `caller`, as the route would give it.
    ///
    /// # Panics
    /// When the board shows neither a login for a key of the route nor a ticket of [`grant`](Self::grant).
    pub fn answer(&self, caller: &Caller) -> Answered {
        match caller.said() {
            FromStranger::Login(greeting) => {
                let begun = self.keys.begin(&greeting).expect("a login for this route");
                begun.read().and_then(imlink_seal::LoginRead::answer).expect("a login")
            }
            FromStranger::Attach { ticket, noise, .. } => AttachRead::new(ticket, noise, &TICKET_KEYS, 1)
                .and_then(AttachRead::answer)
                .expect("a ticket from here"),
        }
    }

    /// Shakes hands rightly with the next board; what comes then are lies.
    pub async fn seal(&self) -> SealedVictim {
        let caller = self.accept().await;
        let answered = self.answer(&caller);
        caller.seal(answered).await
    }

    /// The same, welcomed as session `epoch`.
    pub async fn welcome(&self, epoch: u64) -> SealedVictim {
        let mut victim = self.seal().await;
        victim.say(&ToDevice::Welcome(welcome(epoch))).await;
        victim
    }

    /// Admission for `device` to this server.
    ///
    /// # Panics
    /// When its id is too long for a ticket.
    pub fn grant(&self, device: &str) -> Vec<u8> {
        let ticket = Ticket {
            is_plain: false,
            tenant: "-",
            device,
            epoch_floor: 0,
            expires_s: u64::MAX,
            key: KeyMark([0x17; 8]),
        };
        let mut nonce = [0; 24];
        nonce.copy_from_slice(&random()[..24]);
        let mut out = [0; GRANT_LEN_MAX];
        let len = grant(&ticket, &TICKET_KEYS[0].1, &nonce, &mut out).expect("a short id");
        out[..len].to_vec()
    }

    /// Passes all connections on to `gateway` and lies no more.
    ///
    /// # Panics
    /// When the gateway is gone.
    pub async fn turn_honest(self, gateway: SocketAddr) {
        loop {
            let Ok((mut board, _)) = self.listener.accept().await else { return };
            tokio::spawn(async move {
                let mut gateway = TcpStream::connect(gateway).await.expect("the gateway listens");
                // Either side may close as it likes.
                let _ = tokio::io::copy_bidirectional(&mut board, &mut gateway).await;
            });
        }
    }
}

impl Caller {
    /// What it says.
    ///
    /// # Panics
    /// When that is nothing of a handshake.
    pub fn said(&self) -> FromStranger<'_> {
        let (body, _) = take(&self.first, HELLO_FRAME_LEN_MAX).expect("a frame").expect("a whole frame");
        FromStranger::decode(body).expect("the board begins a handshake")
    }

    /// Writes bytes; the board may have closed.
    pub async fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// Waits until the board closes.
    pub async fn closed(&mut self) {
        closed(&mut self.stream).await;
    }

    /// Answers, and waits for the board's `Hello`.
    ///
    /// # Panics
    /// When that is not the first record.
    pub async fn seal(mut self, answered: Answered) -> SealedVictim {
        self.write(&answered.frame).await;
        let Answered { records, .. } = answered;
        let mut victim = SealedVictim { stream: self.stream, input: Vec::new(), records, hello: Vec::new() };
        victim.look(|frame| assert!(matches!(frame, FromDevice::Hello(_)), "{frame:?}")).await;
        victim
    }
}

impl SealedVictim {
    /// `message` as the next record, not sent yet.
    ///
    /// # Panics
    /// When it is too long for any record here.
    pub fn record<T: Serialize + ?Sized>(&mut self, message: &T) -> Vec<u8> {
        let mut out = vec![0; ROOM];
        let len = self.records.sealer.encode(message, &mut out).expect("a message that fits");
        out.truncate(len);
        out
    }

    /// Says `message`.
    pub async fn say(&mut self, message: &ToDevice<'_>) {
        let record = self.record(message);
        self.write(&record).await;
    }

    /// Writes bytes; the board may have closed.
    pub async fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// Looks at the next message of the board.
    ///
    /// # Panics
    /// When none comes within 50 s, or when it is not one.
    pub async fn look<R>(&mut self, look: impl FnOnce(&FromDevice<'_>) -> R) -> R {
        loop {
            let as_it_came = self.input.clone();
            if let Some(opened) = self.records.opener.open(&mut self.input, ROOM).expect("the board seals its records")
            {
                if self.hello.is_empty() {
                    self.hello.extend(&as_it_came[..opened.len]);
                }
                let body = &self.input[opened.start..opened.end];
                let result = look(&frame::decode(body).expect("the board sends what there is"));
                self.input.drain(..opened.len);
                return result;
            }
            read(&mut self.stream, &mut self.input).await;
        }
    }

    /// Waits until the board closes.
    pub async fn closed(&mut self) {
        closed(&mut self.stream).await;
    }
}
