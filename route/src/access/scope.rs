//! What a token may do: verbs, each for all devices or for those of a pattern.

use std::fmt;
use std::str::FromStr;

use imlink_protocol::id::{IdError, check_device_id};
use imlink_store::limits::TOKEN_SCOPES_LEN_MAX;

macro_rules! verbs {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $of_devices:literal;)*) => {
        /// Something that a token may do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Verb { $($(#[$doc])* $variant,)* }

        impl Verb {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name, as in a token's scopes.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// Whether it can be limited to devices of a pattern.
            pub const fn is_of_devices(self) -> bool {
                match self { $(Self::$variant => $of_devices,)* }
            }
        }
    };
}

verbs! {
    /// Store messages for devices.
    Send = "send", true;
    /// Call devices.
    Call = "call", true;
    /// Read what became of messages.
    State = "state", true;
    /// Take messages back.
    Cancel = "cancel", true;
    /// Look at devices and list them.
    Devices = "devices", true;
    /// Provision, revoke and remove devices.
    Provision = "provision", true;
    /// Read events and commit positions.
    Events = "events", true;
    /// Give devices files and firmware images, fetch files of theirs.
    Blob = "blob", true;
    /// See the IM-servers. Only in tenant `-`: they serve all tenants.
    Servers = "servers", false;
    /// Read metrics. Only in tenant `-`: they count all tenants.
    Metrics = "metrics", false;
    /// Add, list and revoke tokens of the tenant, none that may do more.
    Tokens = "tokens", false;
    /// Read the tenant's audit records.
    Audit = "audit", false;
}

impl Verb {
    /// Whether what it shows belongs to no tenant.
    pub(crate) const fn is_of_cluster(self) -> bool {
        matches!(self, Self::Servers | Self::Metrics)
    }
}

impl FromStr for Verb {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let found = Self::ALL.iter().copied().find(|verb| verb.name() == text);
        found.ok_or_else(|| ScopeError::Verb(text.chars().take(64).collect()))
    }
}

/// One verb, for all devices or for those of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Scope {
    verb: Verb,
    /// `*` stands for any run of characters; `None` for all devices.
    devices: Option<Box<str>>,
}

/// Everything that a token may do; 1–32 scopes, written `send,call:lamp-*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scopes(Box<[Scope]>);

/// Most scopes of a token.
const SCOPES_MAX: usize = 32;

/// A text that is no list of scopes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// Nothing is allowed, or too much is listed.
    #[error(
        "{0} scopes are given, 1 to {SCOPES_MAX} are allowed, of {TOKEN_SCOPES_LEN_MAX} bytes in all; write verb or verb:device-pattern"
    )]
    Count(usize),
    /// There is no such verb.
    #[error("`{0}` is not something a token may do; allowed: {all}", all = names())]
    Verb(String),
    /// The verb is not about devices.
    #[error("`{}` takes no device pattern; write it alone", .0.name())]
    NoDevices(Verb),
    /// The pattern cannot match a device.
    #[error("the device pattern of `{verb}` {1}; * stands for any run of characters", verb = .0.name())]
    Pattern(Verb, IdError),
}

fn names() -> String {
    Verb::ALL.iter().map(|verb| verb.name()).collect::<Vec<_>>().join(", ")
}

impl Scopes {
    /// Whether `verb` is allowed for `device`; for `None`, for any device at all.
    pub(crate) fn allow(&self, verb: Verb, device: Option<&str>) -> bool {
        self.of(verb).any(|scope| match (&scope.devices, device) {
            (Some(pattern), Some(device)) => is_like(device, pattern),
            (None, _) | (_, None) => true,
        })
    }

    /// The device patterns that `verb` is limited to; `None` when it is not.
    pub(crate) fn patterns(&self, verb: Verb) -> Option<Vec<Box<str>>> {
        self.of(verb).map(|scope| scope.devices.clone()).collect()
    }

    /// The first scope of `others` that allows more than these do.
    pub(crate) fn exceeded_by(&self, others: &Self) -> Option<String> {
        let is_covered = |other: &Scope| {
            self.of(other.verb).any(|mine| match (&mine.devices, &other.devices) {
                (None, _) => true,
                // A star of the other pattern can only fall under a star of this one.
                (Some(mine), Some(other)) => is_like(other, mine),
                (Some(_), None) => false,
            })
        };
        others.0.iter().find(|other| !is_covered(other)).map(ToString::to_string)
    }

    /// The first scope that only tenant `-` may have.
    pub(crate) fn of_cluster(&self) -> Option<Verb> {
        self.0.iter().map(|scope| scope.verb).find(|verb| verb.is_of_cluster())
    }

    /// Each as it is written.
    pub fn list(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }

    fn of(&self, verb: Verb) -> impl Iterator<Item = &Scope> {
        self.0.iter().filter(move |scope| scope.verb == verb)
    }
}

impl FromStr for Scopes {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let count = text.split(',').filter(|part| !part.trim().is_empty()).count();
        if count == 0 || count > SCOPES_MAX || text.len() > TOKEN_SCOPES_LEN_MAX {
            return Err(ScopeError::Count(count));
        }
        text.split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let (verb, pattern) = match text.split_once(':') {
            None => (text, None),
            Some((verb, pattern)) => (verb, Some(pattern)),
        };
        let verb: Verb = verb.parse()?;
        let Some(pattern) = pattern else { return Ok(Self { verb, devices: None }) };
        if !verb.is_of_devices() {
            return Err(ScopeError::NoDevices(verb));
        }
        check_device_id(&pattern.replace('*', "x")).map_err(|error| ScopeError::Pattern(verb, error))?;
        Ok(Self { verb, devices: Some(pattern.into()) })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.devices {
            None => f.write_str(self.verb.name()),
            Some(devices) => write!(f, "{}:{devices}", self.verb.name()),
        }
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.list().join(","))
    }
}

/// Whether `text` has the form of `pattern`, in which `*` stands for any run of characters.
pub(crate) fn is_like(text: &str, pattern: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return text == pattern };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return text.ends_with(part);
        }
        let Some((_, behind)) = text.split_once(part) else { return false };
        text = behind;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scopes(text: &str) -> Scopes {
        text.parse().unwrap()
    }

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        for (text, pattern, expected) in [
            ("lamp-1", "lamp-1", true),
            ("lamp-1", "lamp-2", false),
            ("lamp-1", "*", true),
            ("lamp-1", "lamp-*", true),
            ("lamp-1", "*-1", true),
            ("lamp-1", "l*p*1", true),
            ("lamp-1", "l*x*1", false),
            ("lamp-1", "lamp-1*", true),
            ("ab", "ab*b", false),
        ] {
            assert_eq!(is_like(text, pattern), expected, "{text} {pattern}");
        }
    }

    #[test]
    fn scopes_allow_what_they_name_and_nothing_else() {
        let some = scopes(" send, call:lamp-* ,call:door,tokens");
        assert_eq!(some.to_string(), "send,call:lamp-*,call:door,tokens");
        assert_eq!(some.to_string().parse(), Ok(some.clone()));
        assert!(some.allow(Verb::Send, Some("x")) && some.allow(Verb::Call, Some("lamp-7")));
        assert!(some.allow(Verb::Call, Some("door")) && some.allow(Verb::Call, None) && some.allow(Verb::Tokens, None));
        assert!(!some.allow(Verb::Call, Some("door-2")) && !some.allow(Verb::State, Some("lamp-7")));
        assert_eq!(some.patterns(Verb::Send), None);
        assert_eq!(some.patterns(Verb::Call), Some(vec!["lamp-*".into(), "door".into()]));
        assert_eq!(some.patterns(Verb::Events), Some(vec![]));
    }

    #[test]
    fn what_is_no_scope_is_refused_with_what_is() {
        for (text, word) in [
            ("", "1 to 32"),
            (" , ", "1 to 32"),
            ("sned", "send, call"),
            ("send:", "empty"),
            ("send:a/b", "0x2f"),
            ("tokens:lamp-*", "no device pattern"),
            ("*", "send, call"),
        ] {
            let error = text.parse::<Scopes>().unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
        assert_eq!("send,".repeat(33).parse::<Scopes>(), Err(ScopeError::Count(33)));
    }

    #[test]
    fn more_than_one_has_cannot_be_given() {
        let mine = scopes("send:lamp-*,call");
        for (text, exceeding) in [
            ("send:lamp-*", None),
            ("send:lamp-1*,call:x", None),
            ("send:lamp-1,call", None),
            ("send", Some("send")),
            ("call,send:*", Some("send:*")),
            ("send:l*p-1", Some("send:l*p-1")),
            ("state", Some("state")),
        ] {
            assert_eq!(mine.exceeded_by(&scopes(text)).as_deref(), exceeding, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_within_another_matches_no_device_that_the_other_does_not(
            mine in "[ab*]{1,5}", other in "[ab*]{1,5}", device in "[ab]{0,6}"
        ) {
            if is_like(&other, &mine) && is_like(&device, &other) {
                prop_assert!(is_like(&device, &mine), "{device} is within {other} and not within {mine}");
            }
        }

        #[test]
        fn scopes_that_are_read_are_written_the_same_and_allow_the_same(
            text in "((send|call|state|events|tokens|metrics|sned)(:[a*/._-]{0,5})?[ ,]{1,2}){0,5}|.{0,40}",
            device in "[a._-]{1,6}"
        ) {
            match text.parse::<Scopes>() {
                Ok(scopes) => {
                    let again: Scopes = scopes.to_string().parse().unwrap();
                    prop_assert_eq!(again.exceeded_by(&scopes), None);
                    for verb in Verb::ALL {
                        prop_assert_eq!(scopes.allow(*verb, Some(&device)), again.allow(*verb, Some(&device)));
                        prop_assert!(!scopes.allow(*verb, Some(&device)) || scopes.allow(*verb, None));
                        prop_assert!(!scopes.allow(*verb, None) || text.contains(verb.name()));
                    }
                    prop_assert_eq!(again, scopes);
                }
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }
    }
}
