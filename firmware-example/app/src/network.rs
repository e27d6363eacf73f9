//! TCP and names over `embassy-net`, as the device client wants them.

use core::cell::{RefCell, RefMut};
use core::net::{IpAddr, SocketAddr};

use embassy_net::dns::DnsQueryType;
use embassy_net::tcp::{ConnectError, Error, State, TcpSocket};
use embassy_net::{IpAddress, Stack};
use embedded_io_async::{ErrorKind, ErrorType, Read, Write};
use embedded_nal_async::{AddrType, Dns, TcpConnect};

/// Connections with `TCP_NODELAY`: one connection at a time, which is what a device has.
///
/// One socket serves all connections, the next one begun resets what is left of the last.
pub struct Network<'d> {
    stack: Stack<'d>,
    socket: RefCell<TcpSocket<'d>>,
}

impl<'d> Network<'d> {
    /// Takes one socket of `stack`. `incoming` need not be larger than one frame; a write that is longer
    /// than `outgoing` waits for the server.
    pub fn new(stack: Stack<'d>, incoming: &'d mut [u8], outgoing: &'d mut [u8]) -> Self {
        let mut socket = TcpSocket::new(stack, incoming, outgoing);
        socket.set_nagle_enabled(false);
        Self { stack, socket: RefCell::new(socket) }
    }
}

/// The connection of an [`Network`]; closed when dropped.
pub struct Connection<'c, 'd>(RefMut<'c, TcpSocket<'d>>);

impl<'d> TcpConnect for Network<'d> {
    type Error = ErrorKind;
    type Connection<'c>
        = Connection<'c, 'd>
    where
        Self: 'c;

    async fn connect<'c>(&'c self, remote: SocketAddr) -> Result<Connection<'c, 'd>, ErrorKind> {
        let IpAddr::V4(ip) = remote.ip() else { return Err(ErrorKind::Unsupported) };
        let socket = self.socket.try_borrow_mut().map_err(|_| ErrorKind::AddrInUse)?;
        let mut connection = Connection(socket);
        if connection.0.state() != State::Closed {
            connection.0.abort();
            // The reset has to be on its way before the socket forgets the connection.
            let _ = connection.0.flush().await;
        }
        let connected = connection.0.connect((IpAddress::Ipv4(ip), remote.port())).await;
        connected.map(|()| connection).map_err(|error| match error {
            ConnectError::InvalidState => ErrorKind::AddrInUse,
            ConnectError::ConnectionReset => ErrorKind::ConnectionRefused,
            ConnectError::TimedOut => ErrorKind::TimedOut,
            ConnectError::NoRoute => ErrorKind::NotConnected,
        })
    }
}

impl Dns for Network<'_> {
    type Error = ErrorKind;

    /// Asks the servers that DHCP named, for IPv4 addresses.
    async fn get_host_by_name(&self, host: &str, _: AddrType) -> Result<IpAddr, ErrorKind> {
        let found = self.stack.dns_query(host, DnsQueryType::A).await.map_err(|_| ErrorKind::NotFound)?;
        found.first().map(|&IpAddress::Ipv4(ip)| IpAddr::V4(ip)).ok_or(ErrorKind::NotFound)
    }

    async fn get_host_by_address(&self, _: IpAddr, _: &mut [u8]) -> Result<usize, ErrorKind> {
        Err(ErrorKind::Unsupported)
    }
}

impl Drop for Connection<'_, '_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl ErrorType for Connection<'_, '_> {
    type Error = ErrorKind;
}

impl Read for Connection<'_, '_> {
    async fn read(&mut self, buf: &mut [u8]) -> Result<usize, ErrorKind> {
        self.0.read(buf).await.map_err(reset)
    }
}

impl Write for Connection<'_, '_> {
    async fn write(&mut self, buf: &[u8]) -> Result<usize, ErrorKind> {
        self.0.write(buf).await.map_err(reset)
    }

    /// What is written is sent without this; waiting for the peer's TCP would only hold up reading.
    async fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}

fn reset(error: Error) -> ErrorKind {
    match error {
        Error::ConnectionReset => ErrorKind::ConnectionReset,
    }
}
