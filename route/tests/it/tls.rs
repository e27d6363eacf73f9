//! HTTPS and TLS on the backend link, with a certificate that is replaced while the route runs.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use imlink_backend_client::{Access, Client, ConnectError, Message};
use imlink_route::{Config, Running, TlsFiles};
use imlink_store::session::Proof;
use imlink_store::{DeviceKey, Store};
use prometheus_client::registry::Registry;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

const TOKEN: &str = "token-of-the-tests-0123";

/// Makes an authority in `dir/ca-NAME.pem` and a certificate of it for localhost in `dir/cert.pem`, `dir/key.pem`.
fn make_certificate(dir: &Path, name: &str) -> std::path::PathBuf {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["localhost".into(), "127.0.0.1".into()];
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
    let ca_file = dir.join(format!("ca-{name}.pem"));
    std::fs::write(&ca_file, authority.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
    std::fs::write(dir.join("cert.pem"), certificate.pem()).unwrap();
    ca_file
}

struct Secured {
    running: Running,
    _dir: tempfile::TempDir,
    ca_file: std::path::PathBuf,
    _shutdown: tokio_util::sync::DropGuard,
}

async fn secured() -> Secured {
    let dir = tempfile::tempdir().unwrap();
    let ca_file = make_certificate(dir.path(), "first");
    let free = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let config = Config {
        http_listen: free,
        backend_listen: free,
        node_listen: None,
        device_listen: None,
        token: TOKEN.into(),
        cluster_secret: "secret-of-the-tests-0123".into(),
        tls: Some(TlsFiles { certificate: dir.path().join("cert.pem"), key: dir.path().join("key.pem") }),
        ..Config::default()
    };
    let store = Store::memory(imlink_store::Config::default());
    store.provision(&DeviceKey::single("lamp").unwrap(), Proof::Plain).await.unwrap();
    let shutdown = CancellationToken::new();
    let running = imlink_route::start(config, store, Registry::default(), shutdown.clone()).await.unwrap();
    Secured { running, _dir: dir, ca_file, _shutdown: shutdown.drop_guard() }
}

impl Secured {
    async fn link(&self, ca_file: &Path) -> Result<Client, ConnectError> {
        let address = format!("imlinks://{}", self.running.backend.unwrap());
        Client::connect(&address, Access::new(TOKEN).trusting(ca_file), "tests").await
    }

    async fn get(&self, path: &str, ca_file: &Path) -> std::io::Result<String> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca_file).unwrap() {
            roots.add(certificate.unwrap()).unwrap();
        }
        let config =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
        let stream = TcpStream::connect(self.running.http.unwrap()).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }
}

#[tokio::test]
async fn backends_reach_both_listeners_over_tls_and_in_no_other_way() {
    let secured = secured().await;
    let client = secured.link(&secured.ca_file).await.unwrap();
    let large = vec![7; 60_000];
    for payload in [&b"on"[..], &large] {
        let sent = client.send(&Message::new("lamp", "led/set", payload)).await.unwrap();
        assert_eq!(client.state("lamp", sent.id).await.unwrap(), sent.state);
    }
    let answer = secured.get("/v1/devices/lamp", &secured.ca_file).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"waiting\":2"), "{answer}");

    let plain = secured.running.backend.unwrap().to_string();
    assert!(Client::connect(&plain, TOKEN, "tests").await.is_err());
    let mut stream = TcpStream::connect(secured.running.http.unwrap()).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: t\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[tokio::test]
async fn a_client_believes_only_the_authority_it_was_given() {
    let secured = secured().await;
    let other = tempfile::tempdir().unwrap();
    let stranger = make_certificate(other.path(), "other");
    assert!(matches!(secured.link(&stranger).await.err(), Some(ConnectError::Io { .. })));
    let address = format!("imlinks://{}", secured.running.backend.unwrap());
    let none = Client::connect(&address, TOKEN, "tests").await.err();
    assert!(matches!(none, Some(ConnectError::NoAuthority { .. })), "{none:?}");
    let scheme = Client::connect("https://127.0.0.1:1", TOKEN, "tests").await.err();
    assert!(matches!(scheme, Some(ConnectError::Scheme { .. })), "{scheme:?}");
}

#[tokio::test]
async fn a_replaced_certificate_counts_within_seconds_and_a_broken_one_never() {
    let secured = secured().await;
    let dir = secured.ca_file.parent().unwrap();
    let client = secured.link(&secured.ca_file).await.unwrap();
    std::fs::write(dir.join("cert.pem"), "not a certificate").unwrap();
    let second = make_certificate(dir, "second");
    let replaced = async {
        while secured.get("/healthz", &second).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), replaced).await.expect("the new certificate counts");
    assert!(secured.get("/healthz", &secured.ca_file).await.is_err());
    assert!(secured.link(&second).await.is_ok());
    // A link that stood goes on.
    client.send(&Message::new("lamp", "led/set", b"on")).await.unwrap();
    std::fs::write(dir.join("key.pem"), "not a key").unwrap();
    let looks = tokio::time::Instant::now() + Duration::from_millis(2500);
    while tokio::time::Instant::now() < looks {
        assert!(secured.get("/healthz", &second).await.is_ok(), "the last good certificate counts");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn files_that_do_not_fit_are_refused_at_start_by_name() {
    let dir = tempfile::tempdir().unwrap();
    make_certificate(dir.path(), "first");
    let files = |certificate: &str, key: &str| TlsFiles {
        certificate: dir.path().join(certificate),
        key: dir.path().join(key),
    };
    std::fs::write(dir.path().join("other-key.pem"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    for (files, word) in [
        (files("none.pem", "key.pem"), "none.pem"),
        (files("cert.pem", "cert.pem"), "private key"),
        (files("key.pem", "key.pem"), "a certificate"),
        (files("cert.pem", "other-key.pem"), "with its key"),
    ] {
        let config = Config {
            http_listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            backend_listen: None,
            node_listen: None,
            device_listen: None,
            token: TOKEN.into(),
            cluster_secret: "secret-of-the-tests-0123".into(),
            tls: Some(files),
            ..Config::default()
        };
        let store = Store::memory(imlink_store::Config::default());
        let started = imlink_route::start(config, store, Registry::default(), CancellationToken::new()).await;
        let error = started.err().expect("it is refused").to_string();
        assert!(error.contains(word), "{word}: {error}");
    }
}
