//! Provisions a fleet's devices over imlink's HTTP API, pipelined on one connection.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context as _, ensure};

use crate::wire::imlink::{TOKEN, device_id};
use crate::wire::imlink_http::Response;

/// Provisions the devices numbered below `count` as plain ones.
pub fn run(api: SocketAddr, count: usize) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(api).with_context(|| format!("the API at {api}"))?;
    stream.set_nodelay(true)?;
    let mut unparsed = Vec::new();
    let mut asked = 0;
    while asked < count {
        let now = (count - asked).min(PIPELINED);
        let mut requests = Vec::new();
        for number in asked..asked + now {
            let device = device_id(u32::try_from(number)?);
            write!(
                requests,
                "PUT /v1/devices/{device} HTTP/1.1\r\nHost: imlink\r\nAuthorization: Bearer {TOKEN}\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{PLAIN}",
                PLAIN.len()
            )?;
        }
        stream.write_all(&requests)?;
        asked += now;
        read_responses(&mut stream, &mut unparsed, now)?;
    }
    Ok(())
}

fn read_responses(stream: &mut TcpStream, unparsed: &mut Vec<u8>, mut missing: usize) -> anyhow::Result<()> {
    let mut buffer = vec![0; 65_536];
    while missing > 0 {
        let mut parsed = 0;
        while let Some(response) = Response::first(unparsed.get(parsed..).unwrap_or_default())? {
            ensure!(matches!(response.status, 200 | 201), "status {}: {}", response.status, response.body);
            parsed += response.len;
            missing -= 1;
        }
        unparsed.drain(..parsed);
        if missing > 0 {
            let length = stream.read(&mut buffer)?;
            ensure!(length > 0, "the API closed the connection");
            unparsed.extend_from_slice(buffer.get(..length).unwrap_or_default());
        }
    }
    Ok(())
}

const PLAIN: &str = r#"{"proof":"plain"}"#;
const PIPELINED: usize = 256;
