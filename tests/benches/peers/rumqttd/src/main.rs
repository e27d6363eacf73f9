//! rumqttd 0.20 as a peer of the benchmark: one MQTT 3.1.1 listener on loopback, `TCP_NODELAY` on
//! every accepted socket, its limits set wide enough for the fleets of the benchmark.
//!
//! The broker leaves Nagle's algorithm on, which with delayed acks makes one push at a time 22/s
//! and says nothing about the broker. It has no setting for it, so [`accept4`] is replaced.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};

use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).ok_or("usage: bench-rumqttd PORT")?;
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse()?));
    Broker::new(config(listen)).start()?;
    Ok(())
}

fn config(listen: SocketAddr) -> Config {
    let server = ServerSettings {
        name: "bench".to_owned(),
        listen,
        tls: None,
        next_connection_delay_ms: 0,
        connections: ConnectionSettings {
            connection_timeout_ms: 60_000,
            max_payload_size: 20_480,
            max_inflight_count: 1_000,
            auth: None,
            external_auth: None,
            dynamic_filters: true,
        },
    };
    Config {
        router: RouterConfig {
            max_connections: 60_000,
            max_outgoing_packet_count: 200,
            max_segment_size: 104_857_600,
            max_segment_count: 10,
            ..RouterConfig::default()
        },
        v4: Some(HashMap::from([("bench".to_owned(), server)])),
        ..Config::default()
    }
}

/// Takes the place of the C library's `accept4` in this program and sets `TCP_NODELAY`.
///
/// # Safety
/// As for the C function: `address` and `length` are null or point to writable memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn accept4(
    listener: libc::c_int,
    address: *mut libc::sockaddr,
    length: *mut libc::socklen_t,
    flags: libc::c_int,
) -> libc::c_int {
    let on: libc::c_int = 1;
    // SAFETY: the arguments are passed on unchanged; `on` outlives the call that reads it.
    unsafe {
        let socket = libc::syscall(libc::SYS_accept4, listener, address, length, flags) as libc::c_int;
        if socket >= 0 {
            let size = size_of::<libc::c_int>() as libc::socklen_t;
            libc::setsockopt(socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, (&raw const on).cast(), size);
        }
        socket
    }
}
