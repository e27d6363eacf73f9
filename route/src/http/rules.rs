//! What each endpoint needs: read from the OpenAPI document, enforced here, and nowhere else.
//!
//! ```text
//! #[utoipa::path(… security(("token" = ["send"])))]     the verb `send`; of this device where the path has {id}
//! #[utoipa::path(… security(("token" = [])))]           any token
//! #[utoipa::path(… security(()))]                       no token
//! ```
//! An endpoint that says nothing is refused to everybody.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::Api;
use super::problem::Problem;
use crate::access::{Caller, Need, Verb};
use crate::request::Failure;

/// What an endpoint needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Nothing at all.
    Open,
    /// Any token.
    AnyToken,
    /// A token that may do this; of the device in the path, if there is one.
    Verb(Verb),
    /// It does not say: nobody.
    Missing,
}

/// The rules of all endpoints.
#[derive(Debug)]
pub(super) struct Rules(HashMap<(String, String), Rule>);

impl Rules {
    /// Reads the rules from an OpenAPI document.
    pub(super) fn of(document: &Value) -> Self {
        let mut rules = HashMap::new();
        let paths = document["paths"].as_object().into_iter().flatten();
        for (path, item) in paths {
            for (method, operation) in item.as_object().into_iter().flatten() {
                rules.insert((method.to_uppercase(), path.clone()), rule(operation));
            }
        }
        Self(rules)
    }

    /// The rule of an endpoint; `None` when there is none.
    pub(super) fn find(&self, method: &Method, path: &str) -> Option<Rule> {
        let method = if method == Method::HEAD { Method::GET.as_str() } else { method.as_str() };
        // axum writes `{*path}` for what may hold slashes; OpenAPI has one form of parameter.
        self.0.get(&(method.to_owned(), path.replace("{*", "{"))).copied()
    }

    /// Every endpoint with its rule.
    #[cfg(test)]
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str, Rule)> {
        self.0.iter().map(|((method, path), rule)| (method.as_str(), path.as_str(), *rule))
    }
}

fn rule(operation: &Value) -> Rule {
    let Some([requirement]) = operation["security"].as_array().map(Vec::as_slice) else { return Rule::Missing };
    let Some(requirement) = requirement.as_object() else { return Rule::Missing };
    if requirement.is_empty() {
        return Rule::Open;
    }
    match requirement.get("token").and_then(Value::as_array).map(Vec::as_slice) {
        Some([]) => Rule::AnyToken,
        Some([verb]) => match verb.as_str().map(str::parse) {
            Some(Ok(verb)) => Rule::Verb(verb),
            _ => Rule::Missing,
        },
        _ => Rule::Missing,
    }
}

/// Whether whoever asks may ask this; stands before every endpoint, behind the token.
pub(super) async fn enforce(
    State(api): State<Arc<Api>>,
    params: RawPathParams,
    request: Request,
    next: Next,
) -> Response {
    match check(&api, &params, &request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn check(api: &Api, params: &RawPathParams, request: &Request) -> Result<(), Problem> {
    let path = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    // A method that the path does not take is refused behind this, by the router.
    let Some(rule) = api.rules.find(request.method(), path) else { return Ok(()) };
    if rule == Rule::Open {
        return Ok(());
    }
    let caller = request.extensions().get::<Arc<Caller>>();
    let caller = caller.ok_or_else(|| Problem::new(Failure::Unauthorized, "no token was presented"))?;
    let is_of_device = path.starts_with("/v1/devices/{id}");
    let device = params.iter().find(|(name, _)| is_of_device && *name == "id").map(|(_, device)| device);
    let need = match (rule, device) {
        (Rule::Open | Rule::AnyToken, _) => Need::Nothing,
        (Rule::Verb(verb), Some(device)) => Need::Device(verb, device),
        (Rule::Verb(verb), None) => Need::Verb(verb),
        (Rule::Missing, _) => {
            let why = "this endpoint does not say who may use it, so nobody may; please report it";
            return Err(Problem::new(Failure::Forbidden, why));
        }
    };
    Ok(caller.check(need)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_endpoint_that_says_nothing_or_something_unknown_is_nobody_s() {
        let rule_of = |security: Value| rule(&json!({ "security": security }));
        assert_eq!(rule_of(json!([{}])), Rule::Open);
        assert_eq!(rule_of(json!([{ "token": [] }])), Rule::AnyToken);
        assert_eq!(rule_of(json!([{ "token": ["call"] }])), Rule::Verb(Verb::Call));
        for wrong in [
            json!(null),
            json!([]),
            json!([{}, { "token": [] }]),
            json!([{ "token": ["fly"] }]),
            json!([{ "token": ["send", "call"] }]),
            json!([{ "other": [] }]),
        ] {
            assert_eq!(rule_of(wrong.clone()), Rule::Missing, "{wrong}");
        }
    }
}
