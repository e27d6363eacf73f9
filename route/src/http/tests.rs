use super::*;

/// The endpoints that backends are promised.
const PROMISED: &[(&str, &[&str])] = &[
    ("/v1/devices", &["get"]),
    ("/v1/devices/{id}", &["put", "get", "delete"]),
    ("/v1/devices/{id}/messages/{path}", &["post", "get", "delete"]),
    ("/v1/devices/{id}/calls/{path}", &["post"]),
    ("/v1/events", &["get"]),
    ("/v1/events/commit", &["post"]),
    ("/v1/servers", &["get"]),
    ("/v1/openapi.json", &["get"]),
    ("/healthz", &["get"]),
    ("/readyz", &["get"]),
    ("/metrics", &["get"]),
];

#[test]
fn the_openapi_document_has_every_endpoint_with_its_refusals() {
    let (_, document) = endpoints().split_for_parts();
    let json = serde_json::to_value(openapi::complete(document)).unwrap();
    let paths = json["paths"].as_object().unwrap();
    assert_eq!(paths.len(), PROMISED.len(), "{:?}", paths.keys());
    for (path, methods) in PROMISED {
        let item = paths[*path].as_object().unwrap();
        assert_eq!(item.len(), methods.len(), "{path}");
        for method in *methods {
            let operation = &item[*method];
            assert!(operation["summary"].is_string(), "{method} {path}");
            if path.starts_with("/v1") {
                for status in ["400", "401", "403", "404", "405", "409", "413", "415", "422", "429", "503", "504"] {
                    let content = &operation["responses"][status]["content"][PROBLEM_TYPE];
                    assert_eq!(content["schema"]["$ref"], "#/components/schemas/Problem", "{method} {path} {status}");
                }
            }
        }
    }
    assert!(json["components"]["schemas"]["More"]["properties"]["retry_after_ms"].is_object());
    assert_eq!(json["components"]["securitySchemes"]["token"]["scheme"], "bearer");
}
