//! What a sealed link costs a host on one core: the answer to a login, the answer to an attach, and a record of 64 bytes, with
//! the primitives that were tried. Prints a table, min/median/max of interleaved rounds.
//!
//! "imlink" is the product's whole way: the mac or ticket checked, the claim parsed, the answer framed. The others are `snow` with
//! another resolver, which do the handshake's two messages and nothing else; so what they are short of imlink's
//! is less than the cryptography alone.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use imlink_protocol::key_pair::{LoginKeys, PrivateKey, Psk};
use imlink_protocol::limits::GRANT_LEN_MAX;
use imlink_protocol::seal::{
    self, ATTACH_PATTERN, ATTACH_PROLOGUE, Aead, Attach, Claim, FromStranger, Initiator, KEY_LEN, LOGIN_PATTERN,
    LOGIN_PROLOGUE, Login, MESSAGE_LEN_MAX, Portable, Records,
};
use imlink_protocol::ticket::{self, Ticket};
use imlink_protocol::{KeyMark, frame};
use imlink_seal::{AttachRead, Fast, RouteKeys};
use snow::resolvers::{BoxedCryptoResolver, DefaultResolver, FallbackResolver, RingResolver};

/// Measures the host's end of sealed links, one thread.
#[derive(Clone, Copy, Parser)]
struct Cli {
    /// How often all are measured, in turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measured time of each in a round.
    #[arg(long, default_value_t = 500)]
    milliseconds: u64,
}

/// One line of the table: its words, and what is done again and again.
type Subject<'a> = (&'static str, Box<dyn FnMut() -> anyhow::Result<()> + 'a>);

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let login = FirstFrame::login()?;
    let attach = FirstFrame::attach()?;
    let mut subjects: Vec<Subject<'_>> = vec![
        ("login answered: imlink, AWS-LC", Box::new(|| login.answer())),
        ("login answered: snow on RustCrypto and dalek", Box::new(|| login.by_snow(Box::new(DefaultResolver)))),
        ("login answered: snow on ring and dalek", Box::new(|| login.by_snow(ring()))),
        ("attach answered: imlink, AWS-LC", Box::new(|| attach.answer())),
        ("attach answered: snow on RustCrypto and dalek", Box::new(|| attach.by_snow(Box::new(DefaultResolver)))),
        ("attach answered: snow on ring and dalek", Box::new(|| attach.by_snow(ring()))),
        ("record of 64 bytes sealed and opened: AWS-LC", Box::new(record::<Fast>())),
        ("record of 64 bytes sealed and opened: RustCrypto", Box::new(record::<Portable>())),
    ];
    let mut figures = vec![Vec::new(); subjects.len()];
    for _ in 0..cli.rounds {
        for ((_, run), figures) in subjects.iter_mut().zip(&mut figures) {
            figures.push(micros(run, Duration::from_millis(cli.milliseconds))?);
        }
    }
    println!("| | µs | a second on one core |\n|---|---|---|");
    for ((words, _), figures) in subjects.iter().zip(&mut figures) {
        figures.sort_by(f64::total_cmp);
        let (Some(min), Some(max)) = (figures.first(), figures.last()) else { continue };
        let median = figures.get(figures.len() / 2).unwrap_or(min);
        println!("| {words} | {min:.2}/{median:.2}/{max:.2} | {:.0} |", 1e6 / median);
    }
    Ok(())
}

fn micros(run: &mut dyn FnMut() -> anyhow::Result<()>, time: Duration) -> anyhow::Result<f64> {
    let (start, mut count) = (Instant::now(), 0_u32);
    while start.elapsed() < time {
        for _ in 0..BATCH {
            run()?;
        }
        count += BATCH;
    }
    Ok(start.elapsed().as_secs_f64() * 1e6 / f64::from(count))
}

/// A device's first frame, and what the host needs to answer it. The host keeps nothing, so one frame serves.
struct FirstFrame {
    frame: Vec<u8>,
    pattern: &'static str,
    prologue: Vec<u8>,
    psk: [u8; KEY_LEN],
    route: Option<RouteKeys>,
    days: Vec<(u32, ticket::TicketKey)>,
}

impl FirstFrame {
    fn login() -> anyhow::Result<Self> {
        let current = PrivateKey::new(ROUTE_KEY);
        let login = Login {
            tenant: "-",
            device: "bench-1",
            claim: CLAIM,
            private_key: &[0x31; KEY_LEN],
            route_key: &current.public().0,
            psk: &PSK,
        };
        let mut area = [0; MESSAGE_LEN_MAX];
        let (_, len) = Initiator::login(&login, &mut ephemeral()?, &mut area).map_err(|e| anyhow::anyhow!("{e}"))?;
        let keys = LoginKeys { current, next: PrivateKey::new([0x33; KEY_LEN]) };
        let psks = HashMap::from([("-".to_owned(), Psk::new(PSK))]);
        Ok(Self {
            frame: area.get(..len).unwrap_or_default().to_vec(),
            pattern: LOGIN_PATTERN,
            prologue: [LOGIN_PROLOGUE, &[imlink_protocol::VERSION], b"-"].concat(),
            psk: PSK,
            route: Some(RouteKeys::new(&keys, psks).context("keys")?),
            days: Vec::new(),
        })
    }

    fn attach() -> anyhow::Result<Self> {
        let day = ticket::derive(&[0x34; KEY_LEN], "server", DAY);
        let (expires_s, key) = (NOW_S + 60, KeyMark(*b"key mark"));
        let said = Ticket { is_plain: false, tenant: "-", device: "bench-1", epoch_floor: 1, expires_s, key };
        let mut grant = [0; GRANT_LEN_MAX];
        let len = ticket::grant(&said, &day, &[3; 24], &mut grant).context("a grant fits")?;
        let (key, ticket) = grant.get(..len).and_then(|grant| grant.split_first_chunk()).context("a grant")?;
        let attach = Attach { ticket, key, claim: CLAIM };
        let mut area = [0; MESSAGE_LEN_MAX];
        let (_, len) = Initiator::attach(&attach, &mut ephemeral()?, &mut area).map_err(|e| anyhow::anyhow!("{e}"))?;
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, ticket);
        Ok(Self {
            frame: area.get(..len).unwrap_or_default().to_vec(),
            pattern: ATTACH_PATTERN,
            prologue: [ATTACH_PROLOGUE, &[imlink_protocol::VERSION], hash.as_ref()].concat(),
            psk: *key,
            route: None,
            days: vec![(DAY, day)],
        })
    }

    fn body(&self) -> anyhow::Result<FromStranger<'_>> {
        let taken = seal::take(&self.frame, MESSAGE_LEN_MAX).map_err(|e| anyhow::anyhow!("{e}"))?;
        FromStranger::decode(taken.context("a whole frame")?.0).map_err(|e| anyhow::anyhow!("{e}"))
    }

    /// The product's own way.
    fn answer(&self) -> anyhow::Result<()> {
        let answered = match (self.body()?, &self.route) {
            (FromStranger::Login(greeting), Some(route)) => route.begin(&greeting)?.read()?.answer()?,
            (FromStranger::Attach { ticket, noise, .. }, None) => {
                AttachRead::new(ticket, noise, &self.days, NOW_S)?.answer()?
            }
            (other, _) => anyhow::bail!("{other:?}"),
        };
        black_box(answered.frame);
        Ok(())
    }

    /// Both messages of the same handshake.
    fn by_snow(&self, resolver: BoxedCryptoResolver) -> anyhow::Result<()> {
        let builder = snow::Builder::with_resolver(self.pattern.parse()?, resolver).prologue(&self.prologue)?;
        let (builder, noise) = match self.body()? {
            FromStranger::Login(greeting) => {
                (builder.local_private_key(&ROUTE_KEY)?.psk(2, &self.psk)?, greeting.noise)
            }
            FromStranger::Attach { noise, .. } => (builder.psk(0, &self.psk)?, noise),
        };
        let (mut state, mut claim, mut answer) = (builder.build_responder()?, [0; 128], [0; 64]);
        state.read_message(noise, &mut claim)?;
        state.write_message(&[], &mut answer)?;
        black_box((state.dangerously_get_raw_split(), answer));
        Ok(())
    }
}

/// Seals a record of 64 bytes and opens it at the other end.
fn record<A: Aead>() -> impl FnMut() -> anyhow::Result<()> {
    let (mut here, mut there) = (Records::<A>::new([1; KEY_LEN], [2; KEY_LEN]), Records::<A>::new([2; 32], [1; 32]));
    move || {
        let mut out = [0; 96];
        let len = here.sealer.encode(&[[7_u8; 32]; 2], &mut out)?;
        let record = out.get_mut(..len).unwrap_or_default();
        let opened = there.opener.open(record, 512).map_err(|e| anyhow::anyhow!("{e}"))?.context("a whole record")?;
        let body = record.get(opened.start..opened.end).unwrap_or_default();
        black_box(frame::decode::<[[u8; 32]; 2]>(body).map_err(|e| anyhow::anyhow!("{e}"))?);
        Ok(())
    }
}

fn ring() -> BoxedCryptoResolver {
    Box::new(FallbackResolver::new(Box::new(RingResolver), Box::new(DefaultResolver)))
}

fn ephemeral() -> anyhow::Result<[u8; KEY_LEN]> {
    let mut key = [0; KEY_LEN];
    getrandom::fill(&mut key)?;
    Ok(key)
}

const CLAIM: Claim = Claim { incarnation: 1, attempt: 1 };
const ROUTE_KEY: [u8; KEY_LEN] = [0x32; KEY_LEN];
const PSK: [u8; KEY_LEN] = [0; KEY_LEN];
const DAY: u32 = 20_000;
const NOW_S: u64 = DAY as u64 * 86_400;
const BATCH: u32 = 16;
