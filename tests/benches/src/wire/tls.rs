//! Any wire over TLS 1.3: devices check the server's certificate and do a full handshake each, as an imlink device does a
//! full login. The backend's connection stays plain, as imlink's does.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::{Event, Role, Unexpected, Wire};

/// What all devices of this process are configured with.
static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();

/// Trusts the certificates in a PEM file, before the first connection.
pub fn trust(file: &Path) -> anyhow::Result<()> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).with_context(|| format!("{}", file.display()))? {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    let _first = CONFIG.set(Arc::new(config));
    Ok(())
}

/// One connection of the inner wire, inside TLS if it is a device's.
pub struct Tls<W> {
    inner: W,
    tls: Option<Box<ClientConnection>>,
    /// Opened, and not yet a whole message of the inner wire.
    opened: Vec<u8>,
    is_inner_open: bool,
}

impl<W: Wire> Wire for Tls<W> {
    fn new(role: Role) -> Self {
        let tls = matches!(role, Role::Device(_)).then(|| {
            let config = CONFIG.get().expect("certificates are trusted before the first connection");
            let name = ServerName::from(IpAddr::V4(Ipv4Addr::LOCALHOST));
            Box::new(ClientConnection::new(Arc::clone(config), name).expect("the configuration is sound"))
        });
        Self { inner: W::new(role), tls, opened: Vec::new(), is_inner_open: false }
    }

    fn provisioned() -> String {
        W::provisioned()
    }

    fn open(&mut self, out: &mut Vec<u8>) {
        match &mut self.tls {
            Some(tls) => flush(tls, out),
            None => self.inner.open(out),
        }
    }

    fn push(&mut self, device: u32, request: u64, out: &mut Vec<u8>) {
        self.seal(out, |inner, out| inner.push(device, request, out));
    }

    fn publish(&mut self, count: u32, out: &mut Vec<u8>) {
        self.seal(out, |inner, out| inner.publish(count, out));
    }

    fn hear(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Option<(usize, Event)>, Unexpected> {
        let Some(tls) = &mut self.tls else {
            return self.inner.hear(bytes, out);
        };
        let mut answer = Vec::new();
        if let Some((len, event)) = self.inner.hear(&self.opened, &mut answer)? {
            self.opened.drain(..len);
            self.seal(out, |_, out| out.append(&mut answer));
            return Ok(Some((0, event)));
        }
        let mut rest = bytes;
        let len = tls.read_tls(&mut rest).map_err(unexpected)?;
        if len == 0 {
            return Ok(None);
        }
        let state = tls.process_new_packets().map_err(unexpected)?;
        let old = self.opened.len();
        self.opened.resize(old + state.plaintext_bytes_to_read(), 0);
        tls.reader().read_exact(self.opened.get_mut(old..).unwrap_or_default()).map_err(unexpected)?;
        flush(tls, out);
        if !self.is_inner_open && !tls.is_handshaking() {
            self.is_inner_open = true;
            self.seal(out, |inner, out| inner.open(out));
        }
        Ok(Some((len, Event::Quiet)))
    }
}

impl<W> Tls<W> {
    /// What the inner wire says, as one record.
    fn seal(&mut self, out: &mut Vec<u8>, say: impl FnOnce(&mut W, &mut Vec<u8>)) {
        let Some(tls) = &mut self.tls else {
            return say(&mut self.inner, out);
        };
        let mut said = Vec::new();
        say(&mut self.inner, &mut said);
        tls.writer().write_all(&said).expect("writes into memory");
        flush(tls, out);
    }
}

fn flush(tls: &mut ClientConnection, out: &mut Vec<u8>) {
    while tls.wants_write() {
        tls.write_tls(out).expect("writes into memory");
    }
}

fn unexpected(error: impl ToString) -> Unexpected {
    Unexpected(error.to_string())
}
