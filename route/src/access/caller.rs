//! Who asks, and whether that may be asked.

use std::time::{Duration, Instant, SystemTime};

use imlink_protocol::id::TokenId;
use imlink_protocol::link::backend::Failure;
use imlink_store::token::Token;

use super::rate::Bucket;
use super::{ScopeError, Scopes, Verb};
use crate::core::Core;
use crate::request::Failed;

/// Whoever presented a token.
#[derive(Debug)]
pub(crate) struct Caller {
    /// What it acts in.
    pub(crate) tenant: Box<str>,
    /// Its token; [`TokenId::NONE`] for that of the configuration.
    pub(crate) token: TokenId,
    /// `None`: everything, in every tenant.
    scopes: Option<Scopes>,
    bucket: Option<Bucket>,
    pub(crate) rate: u32,
    /// ms since 1970, 0 for never.
    pub(crate) expires_ms: u64,
}

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need<'a> {
    /// Any token.
    Nothing,
    /// This verb, for any device; what is shown is limited to those that the token is for.
    Verb(Verb),
    /// This verb for this device.
    Device(Verb, &'a str),
}

impl Caller {
    /// The token of the configuration, acting in `tenant`.
    pub(crate) fn of_configuration(tenant: &str) -> Self {
        Self { tenant: tenant.into(), token: TokenId::NONE, scopes: None, bucket: None, rate: 0, expires_ms: 0 }
    }

    /// The owner of a token of the store.
    pub(crate) fn of_token(token: &Token, now: Instant) -> Result<Self, ScopeError> {
        Ok(Self {
            tenant: token.tenant.as_str().into(),
            token: token.id,
            scopes: Some(token.scopes.parse()?),
            bucket: (token.rate > 0).then(|| Bucket::new(token.rate, now)),
            rate: token.rate,
            expires_ms: token.expires_ms,
        })
    }

    /// Whether its scopes allow what is needed; else `forbidden`, naming the missing one.
    pub(crate) fn check(&self, need: Need<'_>) -> Result<(), Failed> {
        let (verb, device) = match need {
            Need::Nothing => return Ok(()),
            Need::Verb(verb) => (verb, None),
            Need::Device(verb, device) => (verb, Some(device)),
        };
        if self.allows(verb, device) {
            return Ok(());
        }
        let missing = match device {
            Some(device) => format!("`{0}` or `{0}:{device}`", verb.name()),
            None => format!("`{}`", verb.name()),
        };
        let why = format!(
            "token {} may not do this: it needs the scope {missing} and has {}; ask for a token that has it",
            self.token,
            self.scopes.as_ref().map_or_else(String::new, ToString::to_string)
        );
        Err(Failed::new(Failure::Forbidden, why))
    }

    /// Takes one request from its rate; else `rate-limited`, saying when to come back.
    pub(crate) fn take_rate(&self, now: Instant) -> Result<(), Failed> {
        let Some(bucket) = &self.bucket else { return Ok(()) };
        bucket.take(now).map_err(|wait| {
            let why =
                format!("token {} may make {} requests a second on this route: come back later", self.token, self.rate);
            Failed::later(Failure::RateLimited, wait.max(Duration::from_millis(1)), why)
        })
    }

    /// Whether it counts still: it was neither revoked nor did it expire since it was presented.
    pub(crate) fn is_current(&self, core: &Core) -> Result<(), Failed> {
        if core.tokens.is_revoked(self.token) {
            return Err(Failed::new(Failure::Unauthorized, format!("token {} was revoked", self.token)));
        }
        if self.expires_ms != 0 && self.expires_ms <= now_ms() {
            return Err(Failed::new(Failure::Unauthorized, format!("token {} has expired", self.token)));
        }
        Ok(())
    }

    /// Whether `verb` is allowed for `device`; for `None`, for any device at all.
    pub(crate) fn allows(&self, verb: Verb, device: Option<&str>) -> bool {
        // What is not of one tenant is shown to the operator's only.
        if verb.is_of_cluster() && &*self.tenant != imlink_protocol::id::TENANT_DEFAULT && self.token.is_some() {
            return false;
        }
        self.scopes.as_ref().is_none_or(|scopes| scopes.allow(verb, device))
    }

    /// The device patterns that `verb` is limited to; `None` when it is not.
    pub(crate) fn patterns(&self, verb: Verb) -> Option<Vec<Box<str>>> {
        self.scopes.as_ref().and_then(|scopes| scopes.patterns(verb))
    }

    /// The first of `scopes` that allows more than this caller may do.
    pub(crate) fn exceeded_by(&self, scopes: &Scopes) -> Option<String> {
        self.scopes.as_ref().and_then(|mine| mine.exceeded_by(scopes))
    }
}

/// ms since 1970 by the clock of this machine.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
