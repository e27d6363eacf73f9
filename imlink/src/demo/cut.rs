//! A network path that can be cut and mended.

use std::net::SocketAddr;

use anyhow::Context;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes bytes between whoever connects and one address, while it is whole.
pub(super) struct Cut {
    /// Where to connect.
    pub(super) address: SocketAddr,
    is_whole: watch::Sender<bool>,
}

impl Cut {
    /// A whole path to `target`.
    pub(super) async fn listen(target: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("no free port")?;
        let address = listener.local_addr()?;
        let (is_whole, watched) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((from, _)) = listener.accept().await {
                tokio::spawn(pass(from, target, watched.clone()));
            }
        });
        Ok(Self { address, is_whole })
    }

    /// Ends every connection and lets no new one through.
    pub(super) fn cut(&self) {
        self.is_whole.send_replace(false);
    }

    /// Lets connections through again.
    pub(super) fn mend(&self) {
        self.is_whole.send_replace(true);
    }
}

async fn pass(mut from: TcpStream, target: SocketAddr, mut is_whole: watch::Receiver<bool>) {
    if !*is_whole.borrow() {
        return;
    }
    let Ok(mut to) = TcpStream::connect(target).await else { return };
    let _ = (from.set_nodelay(true), to.set_nodelay(true));
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut from, &mut to) => {}
        _ = is_whole.wait_for(|is_whole| !is_whole) => {}
    }
}
