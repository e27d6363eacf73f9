//! The HTTP API from the client's side.

use std::time::Duration;

use imlink_route::http::{PROBLEM_TYPE, Problem};
use reqwest::{Method, RequestBuilder, Response, header};

use crate::cli::ClientArgs;
use crate::exit::Exit;
use crate::state_dir::{Secret, StateDir};

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What an answer may take beyond the time that was asked for.
const ANSWER_SLACK: Duration = Duration::from_secs(10);

/// Why a request was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nobody answers there.
    #[error("cannot reach {url}: {why}\n  start one with `imlink gateway`, or name it with --url or IMLINK_URL")]
    Unreachable {
        /// Where.
        url: String,
        /// Why not.
        why: String,
    },
    /// It was refused.
    #[error("{}: {}{}", .0.name(), .0.detail, hint(.0))]
    Refused(Box<Problem>),
    /// Something on this side, or an answer that is not imlink's.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl ClientError {
    /// The exit status that tells it.
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::Unreachable { .. } => Exit::Unreachable,
            Self::Refused(_) | Self::Other(_) => Exit::Failed,
        }
    }
}

fn builder(url: &str) -> reqwest::ClientBuilder {
    // Fails only when there is a provider already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let http = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).no_proxy();
    // A small machine may have no authorities, and needs none without TLS.
    if url.starts_with("https://") { http } else { http.tls_certs_only([]) }
}

/// What to do next.
fn hint(problem: &Problem) -> String {
    match problem.name() {
        "unauthorized" => {
            "\n  give the token with --token, --token-file or IMLINK_TOKEN; a gateway keeps its own in STATE_DIR/token"
                .into()
        }
        "forbidden" => "\n  ask for a token that may: `imlink token add --help`".into(),
        "unknown-device" => "\n  provision it with `imlink device add ID`".into(),
        _ => String::new(),
    }
}

/// A gateway or route, and the right to ask it.
#[derive(Clone)]
pub(crate) struct Api {
    http: reqwest::Client,
    url: String,
    token: Option<String>,
    tenant: Option<String>,
}

impl Api {
    /// The one that `args` name. Without a token given, the one in the state directory is taken.
    pub(crate) fn new(args: &ClientArgs) -> anyhow::Result<Self> {
        let token = match (&args.token, &args.token_file) {
            (Some(token), _) => Some(token.clone()),
            (None, Some(path)) => {
                let read = std::fs::read_to_string(path);
                let text =
                    read.map_err(|error| anyhow::anyhow!("cannot read the token from {}: {error}", path.display()))?;
                Some(text.trim().to_owned())
            }
            (None, None) => {
                let variable = |name: &str| std::env::var(name).ok();
                let path = args.state_dir.clone().unwrap_or_else(|| StateDir::default_path(variable));
                let read = StateDir::new(&path).read(Secret::Token);
                read.map_err(|error| anyhow::anyhow!("cannot read the token in {}: {error}", path.display()))?
            }
        };
        let mut http = builder(&args.url);
        if let Some(path) = &args.ca_file {
            let read = std::fs::read(path);
            let pem =
                read.map_err(|error| anyhow::anyhow!("cannot read authorities from {}: {error}", path.display()))?;
            let authorities = reqwest::Certificate::from_pem_bundle(&pem);
            let authorities =
                authorities.map_err(|error| anyhow::anyhow!("{} holds no certificates: {error}", path.display()))?;
            http = http.tls_certs_only(authorities);
        }
        let url = args.url.trim_end_matches('/').to_owned();
        Ok(Self { http: http.build()?, url, token, tenant: args.tenant.clone() })
    }

    /// The one at `url`.
    pub(crate) fn at(url: &str, token: Option<String>) -> anyhow::Result<Self> {
        Ok(Self { http: builder(url).build()?, url: url.trim_end_matches('/').to_owned(), token, tenant: None })
    }

    /// Its address.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A request for `path`, whose answer may take `wait`; for ever with `None`.
    pub(crate) fn request(&self, method: Method, path: &str, wait: Option<Duration>) -> RequestBuilder {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(tenant) = &self.tenant {
            request = request.header("imlink-tenant", tenant);
        }
        match wait {
            Some(wait) => request.timeout(wait.saturating_add(ANSWER_SLACK)),
            None => request,
        }
    }

    /// Sends `request`; a refusal is an error.
    pub(crate) async fn ask(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        if !status.is_client_error() && !status.is_server_error() {
            return Ok(answer);
        }
        let is_problem = answer.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == PROBLEM_TYPE);
        let body = answer.bytes().await.map_err(|error| self.unreachable(&error))?;
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) if is_problem => Err(ClientError::Refused(Box::new(problem))),
            _ => Err(anyhow::anyhow!("{} answered {status}, but not as imlink does; is --url right?", self.url).into()),
        }
    }

    /// Sends `request` and reads the JSON it is answered with.
    pub(crate) async fn ask_json<T: serde::de::DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<T, ClientError> {
        let body = self.ask(request).await?.bytes().await.map_err(|error| self.unreachable(&error))?;
        let read = serde_json::from_slice(&body);
        read.map_err(|error| anyhow::anyhow!("{} answered something else than imlink does: {error}", self.url).into())
    }

    /// Nothing came for too long.
    pub(crate) fn silent(&self) -> ClientError {
        ClientError::Unreachable { url: self.url.clone(), why: "nothing moves any more".into() }
    }

    pub(crate) fn unreachable(&self, error: &reqwest::Error) -> ClientError {
        let mut why = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(inner) = source {
            why = inner.to_string();
            source = inner.source();
        }
        if error.is_timeout() {
            why = "no answer in time".into();
        }
        ClientError::Unreachable { url: self.url.clone(), why }
    }
}
