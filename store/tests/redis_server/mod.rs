//! A `redis-server` of the test's own on a free loopback port, killed when dropped.
#![allow(dead_code, reason = "each test crate uses the part it needs")]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use imlink_store::acl::{Role, rules};
use tempfile::TempDir;

/// The process and its folder.
pub(crate) struct RedisServer {
    child: Child,
    folder: TempDir,
    port: u16,
    options: Vec<String>,
}

impl RedisServer {
    /// Without persistence.
    pub(crate) fn start() -> Self {
        Self::start_with(&["--save", "", "--appendonly", "no"])
    }

    /// With these options and TLS on its only port.
    pub(crate) fn start_tls(options: &[&str]) -> Self {
        Self::start_with(&[&["--tls"], options].concat())
    }

    /// With these options.
    pub(crate) fn start_with(options: &[&str]) -> Self {
        let folder = TempDir::new().expect("a temporary folder can be made");
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let mut folder = Some(folder);
        for _ in 0..TRIES {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
            let port = listener.local_addr().expect("it is bound").port();
            drop(listener);
            let Some(taken) = folder.take() else { break };
            let child = spawn(port, &taken, &options);
            let mut server = Self { child, folder: taken, port, options: options.clone() };
            if server.is_up() {
                return server;
            }
            // Somebody else took the port meanwhile.
            drop(server);
            folder = TempDir::new().ok();
        }
        panic!("redis-server does not start with {options:?}");
    }

    /// Its address as a URL.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Its address as a URL for TLS.
    pub(crate) fn tls_url(&self) -> String {
        self.url().replace("redis://", "rediss://")
    }

    /// Makes a user with the rights of `roles`, whose password is its name.
    pub(crate) fn set_user(&self, name: &str, roles: &[Role]) {
        let mut set = redis::cmd("ACL");
        set.arg("SETUSER").arg(name).arg("reset").arg("on").arg(format!(">{name}"));
        set.arg(rules(roles)).exec(&mut self.connection()).expect("the rules are valid");
    }

    /// Its address as a URL with a login of that user.
    pub(crate) fn url_of(&self, user: &str) -> String {
        self.url().replace("redis://", &format!("redis://{user}:{user}@"))
    }

    /// Its address.
    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it was killed");
    }

    /// Starts it again with what is left in its folder.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.port, &self.folder, &self.options);
        assert!(self.is_up(), "redis-server does not start again");
    }

    /// Sends it a signal: `STOP`, `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(status.is_ok_and(|status| status.success()), "kill -{name} works");
    }

    /// A plain connection, to look at keys and set configuration.
    pub(crate) fn connection(&self) -> redis::Connection {
        redis::Client::open(self.url()).and_then(|client| client.get_connection()).expect("it answers")
    }

    fn is_up(&mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return false;
            }
            if TcpStream::connect(self.address()).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(3));
        }
        false
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(port: u16, folder: &TempDir, options: &[String]) -> Child {
    // Not an option of redis-server: which of its two ports is open.
    let (is_tls, options) = match options.split_first() {
        Some((first, rest)) if first == "--tls" => (true, rest),
        _ => (false, options),
    };
    let port = port.to_string();
    // A redis-server built without TLS does not know the other option.
    let ports: &[&str] = if is_tls { &["--port", "0", "--tls-port", &port] } else { &["--port", &port] };
    Command::new("redis-server")
        .args(ports)
        .args(["--bind", "127.0.0.1"])
        .args(options)
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is installed (apt-get install redis-server)")
}

const TRIES: usize = 5;
