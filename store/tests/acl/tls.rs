//! A redis-server with TLS and a certificate authority of the test's own.

use imlink_store::{Config, Error, Store};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

use crate::redis_server::RedisServer;

/// A server with a certificate for 127.0.0.1, and the PEM of who signed it.
fn start() -> (RedisServer, String, TempDir) {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let names = CertificateParams::new(vec!["127.0.0.1".into()]).expect("an address");
    let certificate = names.signed_by(&key, &ca).expect("a certificate");
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("it can be written");
        path.display().to_string()
    };
    let (certificate, key) = (file("redis.crt", certificate.pem()), file("redis.key", key.serialize_pem()));
    let ca_path = file("ca.crt", ca.pem());
    let server = RedisServer::start_tls(&[
        "--save",
        "",
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca_path,
        "--tls-auth-clients",
        "no",
    ]);
    (server, ca.pem(), folder)
}

fn trusting(ca: &str) -> Config {
    Config { tls_ca: Some(ca.as_bytes().to_vec()), ..Config::default() }
}

#[tokio::test]
async fn a_redis_whose_certificate_is_signed_by_the_given_authority_is_used() {
    let (server, ca, _folder) = start();
    let store = Store::redis(&server.tls_url(), trusting(&ca)).await.expect("it is trusted");
    store.ping().await.expect("it answers");
    let at = imlink_store::DeviceKey::single("lamp").expect("is a device id");
    store.provision(&at, imlink_store::session::Proof::Plain).await.expect("it stores");
    assert!(store.identity(&at).await.expect("it answers").is_some());
}

#[tokio::test]
async fn a_redis_whose_certificate_nobody_known_signed_is_refused() {
    let (server, _, _folder) = start();
    let (_, other, _other_folder) = start();
    let error = Store::redis(&server.tls_url(), trusting(&other)).await.expect_err("another one signed it");
    assert!(matches!(&error, Error::Unusable(why) if why.contains("certificate")), "{error}");
}

#[tokio::test]
async fn a_redis_without_tls_is_not_spoken_to_when_tls_is_asked_for() {
    let (_, ca, _folder) = start();
    let plain = RedisServer::start();
    let url = plain.url().replace("redis://", "rediss://");
    Store::redis(&url, trusting(&ca)).await.expect_err("it speaks no TLS");
}

#[tokio::test]
async fn a_file_that_holds_no_certificate_is_named() {
    let (server, _, _folder) = start();
    let error = Store::redis(&server.tls_url(), trusting("no certificate")).await.expect_err("nothing to trust");
    assert!(matches!(error, Error::Unusable(_)), "{error}");
}
