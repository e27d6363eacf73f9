//! TCP, or TLS 1.3 over it.

use core::net::SocketAddr;

use embedded_io_async::ErrorKind;

use crate::board::{self, Connection};

/// Where the device connects.
const BROKER: &str = "broker.example";
const PORT: u16 = 8883;

/// Looks the broker's name up and connects.
async fn connect() -> Result<Connection, ErrorKind> {
    let found = board::lookup(BROKER).await?;
    board::connect(SocketAddr::from((found, PORT))).await
}

/// Memory of a link.
pub(crate) struct Records {
    #[cfg_attr(not(any(feature = "psk", feature = "cert")), expect(dead_code, reason = "of no length then"))]
    read: [u8; READ],
    #[cfg_attr(not(any(feature = "psk", feature = "cert")), expect(dead_code, reason = "of no length then"))]
    write: [u8; WRITE],
}

impl Records {
    pub(crate) const fn new() -> Self {
        Self { read: [0; READ], write: [0; WRITE] }
    }
}

#[cfg(not(any(feature = "psk", feature = "cert")))]
mod plain {
    use super::{Connection, Records, connect};

    pub(crate) type Link<'a> = Connection;
    pub(super) const READ: usize = 0;
    pub(super) const WRITE: usize = 0;

    /// Connects.
    pub(crate) async fn open(_: &mut Records) -> Option<Link<'_>> {
        connect().await.ok()
    }
}

#[cfg(not(any(feature = "psk", feature = "cert")))]
pub(crate) use plain::*;

#[cfg(any(feature = "psk", feature = "cert"))]
mod tls {
    use embedded_tls::{Aes128GcmSha256, CryptoRng, MaxFragmentLength, TlsConfig, TlsConnection, TlsContext};

    use super::{BROKER, Connection, Records, connect};
    use crate::board;

    pub(crate) type Link<'a> = TlsConnection<'a, Connection, Aes128GcmSha256>;

    /// Most of a record's text that the device asks the server for: a message, or with a certificate the message of the
    /// handshake that has it.
    const FRAGMENT: MaxFragmentLength =
        if cfg!(feature = "cert") { MaxFragmentLength::Bits11 } else { MaxFragmentLength::Bits10 };
    /// The same with what TLS 1.3 may add to a record.
    pub(super) const READ: usize = if cfg!(feature = "cert") { 2048 } else { 1024 } + 256;
    /// A message of 512 bytes with what the library wants beside it.
    pub(super) const WRITE: usize = 512 + embedded_tls::TLS_RECORD_OVERHEAD;

    struct Rng;

    impl CryptoRng for Rng {}

    impl rand_core::RngCore for Rng {
        fn next_u32(&mut self) -> u32 {
            let mut bytes = [0; 4];
            self.fill_bytes(&mut bytes);
            u32::from_ne_bytes(bytes)
        }

        fn next_u64(&mut self) -> u64 {
            let mut bytes = [0; 8];
            self.fill_bytes(&mut bytes);
            u64::from_ne_bytes(bytes)
        }

        fn fill_bytes(&mut self, bytes: &mut [u8]) {
            while !board::random(bytes) {}
        }

        fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
            self.fill_bytes(bytes);
            Ok(())
        }
    }

    /// Connects and shakes hands.
    pub(crate) async fn open(records: &mut Records) -> Option<Link<'_>> {
        let connection = connect().await.ok()?;
        let config = TlsConfig::new().with_server_name(BROKER).with_max_fragment_length(FRAGMENT);
        #[cfg(feature = "psk")]
        let config = config.with_psk(&[1; 32], &[b"lamp-1"]);
        let mut link = TlsConnection::new(connection, &mut records.read, &mut records.write);
        link.open(TlsContext::new(&config, provider())).await.ok()?;
        Some(link)
    }

    #[cfg(feature = "psk")]
    fn provider() -> impl embedded_tls::CryptoProvider<CipherSuite = Aes128GcmSha256> {
        embedded_tls::UnsecureProvider::new::<Aes128GcmSha256>(Rng)
    }

    #[cfg(feature = "cert")]
    fn provider() -> impl embedded_tls::CryptoProvider<CipherSuite = Aes128GcmSha256> {
        use embedded_tls::pki::CertVerifier;
        use embedded_tls::{Certificate, CryptoProvider, CryptoRngCore, NoClock, TlsError, TlsVerifier};

        unsafe extern "C" {
            /// The certificate of the authority that the broker's is signed by; outside, so that it does not count.
            safe static board_authority: [u8; 400];
        }

        /// Checks the chain and its signatures by ECDSA over P-256; without a clock, not the dates.
        struct Verifying(CertVerifier<'static, Aes128GcmSha256, NoClock, 1024>);

        impl CryptoProvider for Verifying {
            type CipherSuite = Aes128GcmSha256;
            type Signature = &'static [u8];

            fn rng(&mut self) -> impl CryptoRngCore {
                Rng
            }

            fn verifier(&mut self) -> Result<&mut impl TlsVerifier<Aes128GcmSha256>, TlsError> {
                Ok(&mut self.0)
            }
        }

        Verifying(CertVerifier::new(Certificate::X509(&board_authority)))
    }
}

#[cfg(any(feature = "psk", feature = "cert"))]
pub(crate) use tls::*;
