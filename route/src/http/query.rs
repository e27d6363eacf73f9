//! The part behind `?`: known names only, each at most once.

use std::str::FromStr;
use std::time::Duration;

use super::problem::Problem;
use crate::request::Failure;

/// The parameters of one request, checked against the names the endpoint knows.
#[derive(Debug)]
pub(super) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Reads `query`; a name that is not in `known` and one that comes twice are refused.
    pub(super) fn new(query: Option<&str>, known: &'static [&'static str]) -> Result<Self, Problem> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if !known.contains(&name.as_ref()) {
                let detail = match known {
                    [] => format!("unknown parameter `{name}`; this endpoint takes none"),
                    _ => format!("unknown parameter `{name}`; allowed: {}", known.join(", ")),
                };
                return Err(bad(detail).allowing(known.iter().copied()));
            }
            if pairs.iter().any(|(other, _)| *other == *name) {
                return Err(bad(format!("parameter `{name}` is given twice; give it once")));
            }
            pairs.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self { pairs })
    }

    /// The text of `name`.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.pairs.iter().find(|(other, _)| other == name)?;
        Some(value)
    }

    /// The whole number of `name`, `min` … `max`.
    pub(super) fn number<T: FromStr + PartialOrd + std::fmt::Display>(
        &self,
        name: &str,
        min: T,
        max: T,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match text.parse::<T>() {
            Ok(number) if number >= min && number <= max => Ok(Some(number)),
            _ => Err(bad(format!("`{name}={text}` is not a whole number from {min} to {max}"))),
        }
    }

    /// The time of `name` in seconds, fractions allowed: more than 0, at most `max`.
    pub(super) fn seconds(&self, name: &str, max: Duration) -> Result<Option<Duration>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.parse::<f64>()
            .ok()
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .filter(|time| *time >= Duration::from_millis(1) && *time <= max)
            .map(Some)
            .ok_or_else(|| bad(format!("`{name}={text}` is not a number of seconds from 0.001 to {}", max.as_secs())))
    }
}

fn bad(detail: String) -> Problem {
    Problem::new(Failure::BadRequest, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KNOWN: &[&str] = &["wait", "ttl"];

    #[test]
    fn unknown_and_repeated_parameters_are_refused_by_name() {
        let problem = Query::new(Some("wiat=acked"), KNOWN).unwrap_err();
        assert!(problem.detail.contains("`wiat`") && problem.detail.contains("wait, ttl"));
        assert_eq!(problem.more.allowed, KNOWN);
        assert!(Query::new(Some("ttl=1&ttl=2"), KNOWN).is_err());
        assert!(Query::new(Some("x"), &[]).unwrap_err().detail.contains("takes none"));
    }

    #[test]
    fn numbers_and_times_outside_their_range_name_the_range() {
        let query = Query::new(Some("ttl=70000&wait=0.5"), KNOWN).unwrap();
        assert!(query.number::<u16>("ttl", 0, 60_000).unwrap_err().detail.contains("0 to 60000"));
        let max = Duration::from_secs(10);
        assert_eq!(query.seconds("wait", max), Ok(Some(Duration::from_millis(500))));
        for wrong in ["-1", "0", "nan", "inf", "11", "", "1e400"] {
            let query = format!("wait={wrong}");
            assert!(Query::new(Some(&query), KNOWN).unwrap().seconds("wait", max).is_err(), "{wrong}");
        }
    }

    #[test]
    fn encoded_values_are_read() {
        let query = Query::new(Some("wait=a%20b+c&"), KNOWN).unwrap();
        assert_eq!(query.text("wait"), Some("a b c"));
    }

    proptest! {
        #[test]
        fn whatever_is_behind_the_question_mark_no_number_or_time_is_out_of_its_range(
            query in "((wait|ttl)=[-+0-9.eEinfa%]{0,12}&?){0,2}|.{0,60}"
        ) {
            let max = Duration::from_secs(3600);
            if let Ok(query) = Query::new(Some(&query), KNOWN) {
                prop_assert!(query.pairs.len() <= KNOWN.len());
                if let Ok(Some(time)) = query.seconds("wait", max) {
                    prop_assert!(time > Duration::ZERO && time <= max);
                }
                if let Ok(Some(ttl)) = query.number::<u32>("ttl", 1, 100) {
                    prop_assert!((1..=100).contains(&ttl));
                }
            }
        }
    }
}
