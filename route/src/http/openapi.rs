//! The OpenAPI document, made from the handlers themselves.

use std::collections::BTreeMap;

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, InfoBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, PartialSchema, ToSchema};

use super::problem::{CONTENT_TYPE, More, Problem};
use crate::request::Failure;

/// The refusals that any endpoint may answer, by status.
pub(super) struct Refusals;

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut names: BTreeMap<u16, Vec<&str>> = BTreeMap::from([(405, vec!["method-not-allowed"])]);
        for failure in Failure::ALL {
            names.entry(failure.status()).or_default().push(failure.name());
        }
        let schema = RefOr::Ref(Ref::from_schema_name(<Problem as ToSchema>::name()));
        let response = |names: Vec<&str>| {
            let content = ContentBuilder::new().schema(Some(schema.clone())).build();
            ResponseBuilder::new().description(names.join(", ")).content(CONTENT_TYPE, content).build()
        };
        names.into_iter().map(|(status, names)| (status.to_string(), response(names).into())).collect()
    }
}

/// Completes the document that the handlers gave.
pub(super) fn complete(mut document: OpenApi) -> OpenApi {
    document.info = InfoBuilder::new()
        .title("imlink")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("Commands to small devices, reliably. Refusals are RFC 9457 problem details."))
        .build();
    // axum writes `{*path}` for what may hold slashes; OpenAPI has one form of parameter.
    let paths = std::mem::take(&mut document.paths.paths);
    document.paths.paths = paths.into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    let components = document.components.get_or_insert_default();
    components.schemas.insert(<Problem as ToSchema>::name().into(), Problem::schema());
    components.schemas.insert(More::name().into(), More::schema());
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    components.add_security_scheme("token", SecurityScheme::Http(bearer));
    document
}
