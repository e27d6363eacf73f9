//! What sealing a node link costs: frames of one size over loopback TCP, plain and sealed, a batch at a time.
//!
//! `cargo run --release -p imlink-link --example seal_cost`: CPU of both ends together, per frame.

use std::time::{Duration, Instant};

use imlink_link::seal::{Incoming, NodeKey, connect};
use imlink_link::{Link, OUTBOX_LEN_DEFAULT as MAX, over_tcp};
use tokio::net::{TcpListener, TcpStream};

type Failure = Box<dyn std::error::Error>;

async fn pair(is_sealed: bool) -> Result<(Link, Link), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let there = TcpStream::connect(listener.local_addr()?).await?;
    let here = listener.accept().await?.0;
    if !is_sealed {
        return Ok((over_tcp(there, MAX)?, over_tcp(here, MAX)?));
    }
    let (server, route) = (NodeKey::from_bytes([1; 32])?, NodeKey::from_bytes([2; 32])?);
    let (route_key, server_key) = (route.public(), server.public());
    let accepting = async { Incoming::read(here).await?.link(&route, &server_key, MAX).await };
    let (dialled, accepted) = tokio::join!(connect(there, "s", "r", &server, &route_key, MAX), accepting);
    Ok((dialled?, accepted?))
}

/// Time of one frame when `batch` of them go at once and the peer answers each batch.
async fn per_frame(is_sealed: bool, batch: usize, payload: &[u8]) -> Result<Duration, Failure> {
    let (mut there, mut here) = pair(is_sealed).await?;
    let echo = tokio::spawn(async move {
        let mut seen = 0;
        while let Ok(Some(frames)) = here.receiver.receive().await {
            seen += frames.frames().count();
            if seen >= batch {
                seen = 0;
                if here.sender.send(&0u8).is_err() {
                    return;
                }
            }
        }
    });
    let rounds = (200_000 / batch).clamp(2_000, 20_000);
    let mut encoded = Vec::new();
    for _ in 0..batch {
        imlink_link::encode_onto(&payload, &mut encoded)?;
    }
    let began = Instant::now();
    for _ in 0..rounds {
        there.sender.send_encoded(&encoded)?;
        there.receiver.receive().await?;
    }
    let took = began.elapsed();
    drop(there);
    echo.await?;
    Ok(took / u32::try_from(rounds * batch)?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    println!("frame bytes  batch    plain ns   sealed ns   sealing ns");
    for payload in [vec![7; 64], vec![7; 1024]] {
        for batch in [1, 8, 64, 512] {
            // The best of some, alternating: the machine has other work.
            let mut best = [Duration::MAX; 2];
            for _ in 0..5 {
                for (is_sealed, best) in [false, true].into_iter().zip(&mut best) {
                    *best = (*best).min(per_frame(is_sealed, batch, &payload).await?);
                }
            }
            let [plain, sealed] = best.map(|best| best.as_nanos());
            let more = i128::try_from(sealed)? - i128::try_from(plain)?;
            println!("{:>11} {batch:>6} {plain:>11} {sealed:>11} {more:>12}", payload.len());
        }
    }
    Ok(())
}
