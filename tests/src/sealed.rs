//! A device on a sealed link, by hand: its handshake and its records, rightly, or as wrongly as a test wants.

use std::net::{SocketAddr, SocketAddrV4};
use std::time::Duration;

use imlink_protocol::key_pair::{KEY_LEN, PrivateKey, PublicKey};
use imlink_protocol::limits::{HELLO_FRAME_LEN_MAX, LINK_FRAME_LEN_MAX};
use imlink_protocol::message::{FromDevice, Hello, RejectCode, ToDevice};
use imlink_protocol::seal::{Attach, Claim, Finished, Initiator, Login, MESSAGE_LEN_MAX, Portable, Records, take};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::api::Api;
use crate::wire::{Body, PATIENCE, hello};

/// 32 bytes drawn at random.
///
/// # Panics
/// When the system gives none.
pub fn random() -> [u8; KEY_LEN] {
    let mut bytes = [0; KEY_LEN];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    bytes
}

/// Which connection of a device a handshake claims to be.
pub const fn claim(incarnation: u64, attempt: u32) -> Claim {
    Claim { incarnation, attempt }
}

/// What a sealed device is flashed with.
#[derive(Clone)]
pub struct Flashed {
    /// Device id.
    pub device: String,
    /// Its key.
    pub private: PrivateKey,
    /// Public keys of its routes, current and next.
    pub route_keys: [[u8; KEY_LEN]; 2],
    /// The secret of the fleet, zeros without.
    pub psk: [u8; KEY_LEN],
}

/// A handshake that is begun: its first frame, and what takes the answer.
pub struct Begun {
    /// The first frame.
    pub frame: Vec<u8>,
    initiator: Initiator,
}

/// What came of a handshake.
pub enum Shaken {
    /// The link is sealed.
    Sealed(Sealed),
    /// The server said no.
    Refused(RejectCode),
    /// The connection was closed without a word.
    Silence,
    /// The answer does not open with what the device has.
    NotOpened(TcpStream),
}

/// A device that is attached.
pub struct Session {
    /// Its link.
    pub link: Sealed,
    /// Number of its session.
    pub epoch: u64,
    /// Admission to the next one: a ticket's key and the ticket.
    pub grant: Vec<u8>,
}

/// A sealed link.
pub struct Sealed {
    stream: TcpStream,
    input: Vec<u8>,
    records: Records<Portable>,
    /// The last record as it came, before it was opened.
    pub heard: Vec<u8>,
}

impl Flashed {
    /// Provisions `device` with a key made here, and asks which keys it must pin.
    ///
    /// # Panics
    /// When it cannot be provisioned.
    pub async fn provision(api: &Api, device: &str) -> Self {
        let private = PrivateKey::new(random());
        let request = api.request(reqwest::Method::PUT, &format!("/v1/devices/{device}"));
        let body = serde_json::json!({ "public_key": private.public().to_string() });
        let answer = api.ask(request.json(&body)).await;
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
        let keys = api.get("/v1/keys").await;
        let key = |name: &str| keys.text(name).parse::<PublicKey>().expect("a key of a route").0;
        Self { device: device.into(), private, route_keys: [key("current"), key("next")], psk: [0; KEY_LEN] }
    }

    /// Begins a login for the route key that is pinned first.
    pub fn login(&self, claim: Claim) -> Begun {
        self.login_to(&self.route_keys[0], claim)
    }

    /// Begins a login for a route with `route_key`.
    ///
    /// # Panics
    /// When the id does not fit a handshake.
    pub fn login_to(&self, route_key: &[u8; KEY_LEN], claim: Claim) -> Begun {
        let login = Login {
            tenant: "-",
            device: &self.device,
            claim,
            private_key: self.private.bytes(),
            route_key,
            psk: &self.psk,
        };
        let mut frame = vec![0; MESSAGE_LEN_MAX];
        let begun = Initiator::login(&login, &mut random(), &mut frame);
        let (initiator, len) = begun.expect("a login that fits its frame");
        frame.truncate(len);
        Begun { frame, initiator }
    }

    /// Logs in and attaches at a gateway.
    ///
    /// # Panics
    /// When it is not let in.
    pub async fn attach(&self, gateway: SocketAddr, claim: Claim) -> Session {
        self.login(claim).shake(gateway).await.sealed().open().await
    }
}

/// Begins an attach with `grant`: a ticket's key and the ticket.
///
/// # Panics
/// When it is too short or long for a grant.
pub fn attach(grant: &[u8], claim: Claim) -> Begun {
    let (key, ticket) = grant.split_first_chunk().expect("a grant begins with a key");
    let mut frame = vec![0; MESSAGE_LEN_MAX];
    let begun = Initiator::attach(&Attach { ticket, key, claim }, &mut random(), &mut frame);
    let (initiator, len) = begun.expect("a ticket that fits its frame");
    frame.truncate(len);
    Begun { frame, initiator }
}

impl Begun {
    /// Sends the first frame to `address` and takes the answer.
    ///
    /// # Panics
    /// When the answer is none of a handshake.
    pub async fn shake(self, address: SocketAddr) -> Shaken {
        self.shake_in(address, usize::MAX).await
    }

    /// The same, byte by byte.
    pub async fn shake_slowly(self, address: SocketAddr) -> Shaken {
        self.shake_in(address, 1).await
    }

    async fn shake_in(self, address: SocketAddr, chunk: usize) -> Shaken {
        self.shake_over(connect(address).await, chunk).await
    }

    /// The same over a connection that is there, in parts of `chunk` bytes.
    ///
    /// # Panics
    /// When the answer is none of a handshake.
    pub async fn shake_over(self, mut stream: TcpStream, chunk: usize) -> Shaken {
        for part in self.frame.chunks(chunk) {
            // A peer that closed has answered or has not.
            let _ = stream.write_all(part).await;
            tokio::task::yield_now().await;
        }
        let Some(answer) = answer(&mut stream, PATIENCE).await else { return Shaken::Silence };
        let (body, _) = take(&answer, HELLO_FRAME_LEN_MAX).expect("a frame").expect("a whole frame");
        match self.initiator.finish(body) {
            Ok(Finished::Sealed(records)) => {
                Shaken::Sealed(Sealed { stream, input: Vec::new(), records, heard: Vec::new() })
            }
            Ok(Finished::Refused { code, .. }) => Shaken::Refused(code),
            Err(imlink_protocol::seal::SealError::Handshake) => Shaken::NotOpened(stream),
            Err(why) => panic!("imlink answered {answer:02x?}: {why}"),
        }
    }
}

/// A connection to `address`.
///
/// # Panics
/// When there is none.
pub async fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await;
    let stream = stream.unwrap_or_else(|why| panic!("cannot connect to {address}: {why}"));
    stream.set_nodelay(true).expect("TCP_NODELAY on a fresh socket");
    stream
}

/// A connection to `address` from `source`, such as an address of 127.0.0.0/8; `None` when it is refused.
pub async fn connect_from(source: SocketAddrV4, address: SocketAddr) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().ok()?;
    socket.bind(source.into()).ok()?;
    socket.connect(address).await.ok()
}

/// The first frame of a handshake's answer, `None` when the peer closed instead.
async fn answer(stream: &mut TcpStream, within: Duration) -> Option<Vec<u8>> {
    let read = async {
        let mut came = Vec::new();
        loop {
            match take(&came, HELLO_FRAME_LEN_MAX) {
                Ok(None) => {}
                Ok(Some((_, len))) => {
                    came.truncate(len);
                    return Some(came);
                }
                Err(why) => panic!("imlink answered {came:02x?}: {why}"),
            }
            match stream.read_buf(&mut came).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    };
    tokio::time::timeout(within, read).await.expect("an answer, or the connection's end")
}

/// All that `address` says to `bytes` until it closes, `None` when it has not closed `within` that time.
pub async fn knock(address: SocketAddr, bytes: &[u8], within: Duration) -> Option<Vec<u8>> {
    let mut stream = connect(address).await;
    // A peer that closed early has said what it had to say.
    let _ = stream.write_all(bytes).await;
    let mut came = Vec::new();
    let read = async { while matches!(stream.read_buf(&mut came).await, Ok(1..)) {} };
    tokio::time::timeout(within, read).await.ok()?;
    Some(came)
}

impl Shaken {
    /// The sealed link.
    ///
    /// # Panics
    /// When there is none.
    pub fn sealed(self) -> Sealed {
        match self {
            Self::Sealed(link) => link,
            other => panic!("the handshake came to nothing: {}", other.told()),
        }
    }

    /// What the device heard, in a word.
    pub fn told(&self) -> &'static str {
        match self {
            Self::Sealed(_) => "sealed",
            Self::Refused(code) => code.name(),
            Self::Silence => "silence",
            Self::NotOpened(_) => "not-opened",
        }
    }
}

/// The first record of a device: what the handshake said is left out.
pub fn sealed_hello() -> Hello<'static> {
    Hello { tenant: "", device: "", incarnation: 0, attempt: 0, event_queue: 9, ..hello("") }
}

impl Sealed {
    /// Sends `Hello` and takes the `Welcome`.
    ///
    /// # Panics
    /// When the answer is another one.
    pub async fn open(mut self) -> Session {
        let answer = self.ask_hello().await;
        let ToDevice::Welcome(welcome) = answer.read() else {
            panic!("not welcome: {:?}", answer.read::<ToDevice<'_>>())
        };
        Session { epoch: welcome.epoch, grant: welcome.grant.to_vec(), link: self }
    }

    /// Sends `Hello` and takes what comes.
    ///
    /// # Panics
    /// When nothing comes.
    pub async fn ask_hello(&mut self) -> Body {
        self.send(&FromDevice::Hello(sealed_hello())).await;
        self.next().await.expect("an answer to Hello")
    }

    /// `message` as the next record.
    ///
    /// # Panics
    /// When it is longer than the largest frame.
    pub fn seal<T: Serialize + ?Sized>(&mut self, message: &T) -> Vec<u8> {
        let mut out = vec![0; LINK_FRAME_LEN_MAX + 64];
        let len = self.records.sealer.encode(message, &mut out).expect("a message that fits the largest frame");
        out.truncate(len);
        out
    }

    /// Writes `bytes`; false when the peer has closed.
    pub async fn write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// Writes `message` as a record; false when the peer has closed.
    pub async fn send<T: Serialize + ?Sized>(&mut self, message: &T) -> bool {
        let record = self.seal(message);
        self.write(&record).await
    }

    /// The next record's body, `None` when the peer closed.
    ///
    /// # Panics
    /// When nothing comes within [`PATIENCE`], and when it does not open.
    pub async fn next(&mut self) -> Option<Body> {
        tokio::time::timeout(PATIENCE, self.next_record()).await.expect("a record, or the connection's end")
    }

    /// All records until the peer closes.
    ///
    /// # Panics
    /// When it does not close `within` that time.
    pub async fn last_words(&mut self, within: Duration) -> Vec<Body> {
        let all = async {
            let mut bodies = Vec::new();
            while let Some(body) = self.next_record().await {
                bodies.push(body);
            }
            bodies
        };
        let closed = tokio::time::timeout(within, all).await;
        closed.unwrap_or_else(|_| panic!("the connection is still open after {within:?}"))
    }

    /// Acknowledges every message until the link ends.
    pub async fn acknowledge(mut self) {
        while let Some(body) = self.next_record().await {
            if let ToDevice::Message { sequence, .. } = body.read() {
                self.send(&FromDevice::Ack { sequence }).await;
            }
        }
    }

    async fn next_record(&mut self) -> Option<Body> {
        loop {
            let whole = matches!(take(&self.input, LINK_FRAME_LEN_MAX), Ok(Some(_)));
            let before = if whole { self.input.clone() } else { Vec::new() };
            let opened = self.records.opener.open(&mut self.input, LINK_FRAME_LEN_MAX);
            if let Some(opened) = opened.unwrap_or_else(|why| panic!("imlink sent what does not open: {why}")) {
                let body = self.input.get(opened.start..opened.end).unwrap_or_default().to_vec();
                self.heard = before.get(..opened.len).unwrap_or_default().to_vec();
                self.input.drain(..opened.len);
                return Some(Body(body));
            }
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }
}
