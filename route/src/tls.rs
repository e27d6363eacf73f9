//! TLS for backends: a certificate that is read anew when its files change.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// Where certificate and key are, in PEM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsFiles {
    /// The certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {what} from {path}: {error}; give a PEM file that this process may read")]
    Read {
        /// Certificate or key.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        error: pem::Error,
    },
    /// The key does not belong to the certificate, or is of a kind that is not taken.
    #[error("the certificate {path} cannot be used with its key: {error}")]
    Pair {
        /// Where the certificate is.
        path: PathBuf,
        /// Why not.
        error: rustls::Error,
    },
}

/// The certificate as it is now.
pub(crate) struct Certificates {
    files: TlsFiles,
    current: RwLock<Arc<ServerConfig>>,
}

/// What tells that a file is another one.
type Stamp = Option<(SystemTime, u64)>;

impl Certificates {
    /// Reads the files.
    pub(crate) fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        Ok(Self { current: RwLock::new(read(files)?), files: files.clone() })
    }

    /// Makes the connection a TLS one.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        stream.set_nodelay(true)?;
        let config = self.current.read().clone();
        tokio::time::timeout(HANDSHAKE_MAX, TlsAcceptor::from(config).accept(stream)).await?
    }

    /// Reads the files anew whenever they change, until `stop`. While they do not fit, the last good ones count.
    pub(crate) async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let mut known = self.stamps();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let now = self.stamps();
            if now == known {
                continue;
            }
            match read(&self.files) {
                Ok(config) => {
                    *self.current.write() = config;
                    tracing::info!(certificate = %self.files.certificate.display(), "the certificate was read anew");
                    known = now;
                }
                // Both files are seldom replaced at once: the next look may find them fitting.
                Err(error) => tracing::warn!(%error, "the certificate changed and cannot be used; the last one counts"),
            }
        }
    }

    fn stamps(&self) -> [Stamp; 2] {
        [&self.files.certificate, &self.files.key].map(|path| {
            let about = std::fs::metadata(path).ok()?;
            Some((about.modified().ok()?, about.len()))
        })
    }
}

fn read(files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
    let wrong = |what, path: &Path| {
        let path = path.to_owned();
        move |error| TlsError::Read { what, path, error }
    };
    let path = &files.certificate;
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = certificates.map_err(wrong("a certificate", path))?;
    if certificates.is_empty() {
        return Err(wrong("a certificate", path)(pem::Error::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(wrong("a private key", &files.key))?;
    let pair = |error| TlsError::Pair { path: path.clone(), error };
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Longest handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);
