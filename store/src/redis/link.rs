//! The connection and its watchdog.
//!
//! ```text
//! calls ──▶ one pipelined connection ──▶ Redis      blocking reads have connections of their own
//!             ▲ dropped and rebuilt by the watchdog: 3 time-outs in a row, 2 s without an answer
//!               to anything (it asks itself when nobody does), or an error of the transport
//! ```
//! A connection knows the lineage at its far end: the `run_id` read when it was made. The server is told to close
//! the connection before it, so that nothing still on its way there is executed after its retry.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use redis::aio::MultiplexedConnection;
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, Pipeline,
    RedisError, ServerError, TlsCertificates, Value,
};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::script::Scripts;
use super::server_info::ServerInfo;
use crate::{Config, Error};

/// 64 bits of the far end's `run_id`.
pub(super) type Lineage = [u8; 8];

/// A connection that stands.
#[derive(Clone, Debug)]
pub(super) struct Link {
    connection: MultiplexedConnection,
    pub(super) lineage: Lineage,
    client_id: i64,
}

/// Keeps one connection.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) config: Config,
    pub(super) scripts: Scripts,
    client: Client,
    link: RwLock<Option<Link>>,
    broken: Notify,
    started: Instant,
    /// When the last answer came, in ms since `started`.
    answered_ms: AtomicU64,
    timeouts: AtomicU32,
    outages: watch::Sender<u64>,
    blocking: Mutex<Vec<MultiplexedConnection>>,
}

/// How a certificate begins in a file of them.
const PEM_MARK: &[u8] = b"-----BEGIN CERTIFICATE-----";
/// Idle connections for blocking reads that are kept.
const BLOCKING_MAX: usize = 4;
/// Silence after which the system asks the far end for a sign of life.
const KEEPALIVE: Duration = Duration::from_secs(5);

impl Keeper {
    /// Connects; the watchdog is [`watch_over`](Self::watch_over).
    pub(super) async fn open(url: &str, config: Config) -> Result<Self, Error> {
        let unusable = |error: RedisError| Error::Unusable(format!("the address of Redis: {error}"));
        let info = url.into_connection_info().map_err(unusable)?;
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE).with_retries(3);
        let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
        // Its name and version are of no use to Redis, and need no right.
        let login = info.redis_settings().clone().set_skip_set_lib_name();
        let is_tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
        let info = info.set_tcp_settings(tcp).set_redis_settings(login);
        let client = match is_tls {
            true => tls_client(info, config.tls_ca.clone()),
            false => Client::open(info),
        };
        let client = client.map_err(unusable)?;
        let keeper = Self {
            config,
            scripts: Scripts::new(),
            client,
            link: RwLock::new(None),
            broken: Notify::new(),
            started: Instant::now(),
            answered_ms: AtomicU64::new(0),
            timeouts: AtomicU32::new(0),
            outages: watch::Sender::new(0),
            blocking: Mutex::default(),
        };
        let link = keeper.connect(None).await?;
        keeper.publish(link);
        Ok(keeper)
    }

    pub(super) fn outages(&self) -> watch::Receiver<u64> {
        self.outages.subscribe()
    }

    /// The connection, if it stands.
    pub(super) fn link(&self) -> Result<Link, Error> {
        self.link.read().clone().ok_or_else(|| Error::Away("connecting to Redis".into()))
    }

    /// Sends one command.
    pub(super) async fn ask(&self, link: &Link, cmd: Cmd) -> Result<Value, Error> {
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.add_command(cmd);
        let mut values = self.ask_all(link, &pipeline).await?;
        Ok(values.pop().unwrap_or(Value::Nil))
    }

    /// Sends a pipeline in one go and gives its answers in order; the first error is the whole call's.
    pub(super) async fn ask_all(&self, link: &Link, pipeline: &Pipeline) -> Result<Vec<Value>, Error> {
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        let mut values = self.exchange(link, pipeline).await?;
        if values.iter().filter_map(server_error).any(|error| error.code() == "NOSCRIPT") {
            self.exchange(link, &self.scripts.load()).await?;
            values = self.exchange(link, pipeline).await?;
        }
        if let Some(error) = values.iter().find_map(server_error) {
            if error.code() == "READONLY" {
                self.drop_link(link, "it became read-only");
            }
            return Err(error_of(error));
        }
        Ok(values)
    }

    async fn exchange(&self, link: &Link, pipeline: &Pipeline) -> Result<Vec<Value>, Error> {
        let answer = link.connection.clone().send_packed_commands(pipeline, 0, pipeline.len()).await;
        match answer {
            Ok(values) => {
                self.note_answer();
                Ok(values)
            }
            Err(error) => {
                let timeouts = self.timeouts.fetch_add(1, Ordering::Relaxed) + 1;
                let is_broken = !error.is_timeout() || timeouts >= self.config.timeouts_max;
                if is_broken || self.silence() > self.config.silence_max {
                    self.drop_link(link, &error.to_string());
                }
                Err(Error::Away(error.to_string()))
            }
        }
    }

    /// Asks on a connection of its own, which may block for `wait`.
    pub(super) async fn ask_blocking(&self, cmd: &Cmd, wait: Duration) -> Result<Value, Error> {
        let kept = self.blocking.lock().pop();
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.dial(None).await.map_err(|error| Error::Away(error.to_string()))?,
        };
        let limit = wait + self.config.response_timeout;
        let answer = tokio::time::timeout(limit, connection.send_packed_command(cmd)).await;
        let value = match answer {
            Ok(Ok(value)) => value,
            Ok(Err(error)) => return Err(Error::Away(error.to_string())),
            Err(_) => return Err(Error::Away(format!("a blocking read took longer than {limit:?}"))),
        };
        let mut blocking = self.blocking.lock();
        if blocking.len() < BLOCKING_MAX {
            blocking.push(connection);
        }
        drop(blocking);
        match value {
            Value::ServerError(error) => Err(error_of(&error)),
            value => Ok(value),
        }
    }

    /// The watchdog: rebuilds the connection whenever it is broken or silent.
    pub(super) async fn watch_over(self: Arc<Self>) {
        let mut last = self.link.read().clone();
        loop {
            self.watch_link().await;
            let mut is_told = false;
            loop {
                match self.connect(last.as_ref()).await {
                    Ok(link) => {
                        last = Some(link.clone());
                        self.publish(link);
                        break;
                    }
                    Err(error) if !is_told => {
                        tracing::warn!(%error, "Redis is away");
                        is_told = true;
                    }
                    Err(error) => tracing::debug!(%error, "Redis is still away"),
                }
                tokio::time::sleep(self.config.reconnect_pause).await;
            }
            tracing::info!("connected to Redis again");
            self.outages.send_modify(|count| *count += 1);
        }
    }

    /// Returns when the connection is gone.
    async fn watch_link(&self) {
        let step = self.config.silence_max / 4;
        while let Ok(link) = self.link() {
            tokio::select! {
                () = self.broken.notified() => continue,
                () = tokio::time::sleep(step) => {}
            }
            if self.silence() < step {
                continue;
            }
            tokio::select! {
                () = self.broken.notified() => continue,
                _ = self.ask(&link, redis::cmd("PING")) => {}
            }
            if self.silence() > self.config.silence_max {
                self.drop_link(&link, "no answer");
            }
        }
    }

    /// Connects, checks who is there and makes the scripts known to it.
    async fn connect(&self, last: Option<&Link>) -> Result<Link, Error> {
        let limit = self.config.connect_timeout;
        let connecting = async {
            let mut connection = self.dial(Some(self.config.response_timeout)).await?;
            let mut asked = Pipeline::with_capacity(2);
            asked.cmd("INFO").cmd("CLIENT").arg("ID");
            let answers = connection.send_packed_commands(&asked, 0, asked.len()).await?;
            Ok::<_, RedisError>((connection, answers))
        };
        let connected = tokio::time::timeout(limit, connecting).await;
        let (connection, answers) = match connected {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) => return Err(error_of_connect(&error)),
            Err(_) => return Err(Error::Away(format!("no connection to Redis within {limit:?}"))),
        };
        if let Some(error) = answers.iter().find_map(server_error) {
            return Err(error_of(error));
        }
        let (info, client_id): (String, i64) = redis::from_redis_value(Value::Array(answers))
            .map_err(|error| Error::Unusable(format!("what Redis says of itself: {error}")))?;
        let lineage = ServerInfo::parse(&info).check()?;
        let link = Link { connection, lineage, client_id };
        let mut first = self.scripts.load();
        if let Some(last) = last.filter(|last| last.lineage == lineage) {
            first.cmd("CLIENT").arg("KILL").arg("ID").arg(last.client_id);
        }
        let answers = self.exchange(&link, &first).await?;
        // "No such client" is what is hoped for.
        let is_wrong = |error: &&ServerError| !error.details().unwrap_or_default().contains("No such client");
        match answers.iter().filter_map(server_error).find(is_wrong) {
            Some(error) => Err(error_of(error)),
            None => Ok(link),
        }
    }

    async fn dial(&self, response_timeout: Option<Duration>) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.config.connect_timeout))
            .set_response_timeout(response_timeout);
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }

    fn publish(&self, link: Link) {
        self.note_answer();
        *self.link.write() = Some(link);
    }

    fn drop_link(&self, link: &Link, why: &str) {
        let mut current = self.link.write();
        if current
            .as_ref()
            .is_some_and(|current| current.client_id == link.client_id && current.lineage == link.lineage)
        {
            tracing::warn!(why, "the connection to Redis is given up");
            *current = None;
            self.blocking.lock().clear();
            self.broken.notify_one();
        }
    }

    fn note_answer(&self) {
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.answered_ms.store(now_ms, Ordering::Relaxed);
        self.timeouts.store(0, Ordering::Relaxed);
    }

    fn silence(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.answered_ms.load(Ordering::Relaxed)))
    }
}

fn tls_client(info: ConnectionInfo, root_cert: Option<Vec<u8>>) -> Result<Client, RedisError> {
    if root_cert.as_ref().is_some_and(|pem| !pem.windows(PEM_MARK.len()).any(|bytes| bytes == PEM_MARK)) {
        let why = "the certificate authorities for Redis hold no certificate in PEM";
        return Err(RedisError::from((ErrorKind::InvalidClientConfig, why)));
    }
    // Where the program chose a provider already, that one stays.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })
}

fn server_error(value: &Value) -> Option<&ServerError> {
    match value {
        Value::ServerError(error) => Some(error),
        _ => None,
    }
}

/// Sorts what Redis refuses: full, for now, or for good.
fn error_of(error: &ServerError) -> Error {
    let text = format!("Redis answers {} {}", error.code(), error.details().unwrap_or_default());
    match error.code() {
        "OOM" => Error::Full(text),
        "LOADING" | "READONLY" | "NOREPLICAS" | "TRYAGAIN" | "CLUSTERDOWN" | "MASTERDOWN" | "MISCONF" | "BUSY" => {
            Error::Away(text)
        }
        _ => Error::Unusable(text),
    }
}

/// The same for what fails while connecting: only a refused login is for good.
fn error_of_connect(error: &RedisError) -> Error {
    match error.kind() {
        ErrorKind::AuthenticationFailed => Error::Unusable(format!("Redis refuses the login: {error}")),
        _ if error.to_string().contains("invalid peer certificate") => Error::Unusable(format!(
            "the certificate of Redis is not trusted ({error}): name the authority that signed it, and the host as the \
             certificate does"
        )),
        _ => Error::Away(error.to_string()),
    }
}
