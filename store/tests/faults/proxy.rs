//! A TCP proxy in front of Redis that can swallow everything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Passes bytes on until told to swallow those of the connections that stand.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    swallow_upto: Arc<AtomicU64>,
    opened: Arc<AtomicU64>,
}

impl Proxy {
    pub(crate) async fn start(behind: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let address = listener.local_addr().expect("it is bound");
        let (swallow_upto, opened) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (swallow, count) = (swallow_upto.clone(), opened.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                let Ok(server) = TcpStream::connect(behind).await else { continue };
                let (client_read, client_write) = client.into_split();
                let (server_read, server_write) = server.into_split();
                tokio::spawn(pass(client_read, server_write, number, swallow.clone()));
                tokio::spawn(pass(server_read, client_write, number, swallow.clone()));
            }
        });
        Self { address, swallow_upto, opened }
    }

    /// Every connection that stands takes bytes from now on and gives none; new ones work.
    pub(crate) fn swallow(&self) {
        self.swallow_upto.store(self.opened(), Ordering::SeqCst);
    }

    pub(crate) fn opened(&self) -> u64 {
        self.opened.load(Ordering::SeqCst)
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    number: u64,
    swallow_upto: Arc<AtomicU64>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(len @ 1..) = from.read(&mut buffer).await {
        let is_swallowed = number <= swallow_upto.load(Ordering::SeqCst);
        if !is_swallowed && to.write_all(&buffer[..len]).await.is_err() {
            return;
        }
    }
}
