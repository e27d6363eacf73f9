use std::path::PathBuf;

use super::*;

fn load(role: Role, sources: Sources) -> Result<Effective, ConfigError> {
    Effective::load(role, Settings::of_role(role, "/state".into(), "info".into()), sources)
}

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("imlink.toml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

fn environment(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let (_dir, path) =
        file("name = 'file'\nstore = 'redis://file'\nhttp_listen = '127.0.0.1:1'\n[route]\nmailbox_max = 7\n");
    let effective = load(
        Role::Gateway,
        Sources {
            file: Some(path),
            environment: environment(&[
                ("IMLINK_STORE", "redis://environment"),
                ("IMLINK_HTTP_LISTEN", "127.0.0.1:2"),
                ("IMLINK_ROUTE_DRAIN_S", "3"),
                ("HOME", "/"),
            ]),
            flags: vec![("http_listen", "127.0.0.1:3".into())],
            set: vec!["route.requests_max=1_000".into()],
        },
    )
    .unwrap();
    let settings = &effective.settings;
    assert_eq!(settings.name, "file");
    assert_eq!(settings.store, "redis://environment");
    assert_eq!(settings.http_listen.to_string(), "127.0.0.1:3");
    assert_eq!((settings.route.mailbox_max, settings.route.drain_s), (7, 3));
    assert_eq!(settings.route.requests_max, 1000);
    assert_eq!(settings.backend_listen.to_string(), "127.0.0.1:7002");
}

/// A row of the tables of docs/LIMITS.md: `| `KEY` | DEFAULT | …`.
#[test]
fn every_limit_is_documented_with_its_default() {
    let document = include_str!("../../../docs/LIMITS.md");
    let printed = load(Role::Gateway, Sources::default()).unwrap().print();
    let limits: toml::Table = toml::from_str(&printed).unwrap();
    let sections = ["route", "server", "store_limits"].map(|section| (section, limits[section].as_table().unwrap()));
    for (section, (key, value)) in sections.iter().flat_map(|(name, keys)| keys.iter().map(move |key| (name, key))) {
        let row = format!("| `{section}.{key}` | {value} | ");
        assert!(document.contains(&row), "docs/LIMITS.md has no row that begins with: {row}");
    }
}

#[test]
fn a_flag_of_another_command_is_refused_and_a_shared_file_is_not() {
    let flags = vec![("http_listen", "127.0.0.1:1".into())];
    let error = load(Role::Server, Sources { flags, ..Sources::default() }).unwrap_err().to_string();
    assert_eq!(
        error,
        "flag --http-listen: `imlink server` has no `http_listen`; `imlink server --print-config` lists what it has"
    );
    let (_dir, path) = file("http_listen = '127.0.0.1:1'\n");
    let effective = load(Role::Server, Sources { file: Some(path), ..Sources::default() }).unwrap();
    assert!(!effective.print().contains("http_listen"));
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    let (_dir, path) = file("http_lisen = '127.0.0.1:1'\n");
    let sources = Sources { file: Some(path), ..Sources::default() };
    let error = load(Role::Gateway, sources).unwrap_err().to_string();
    assert!(error.contains("`http_lisen`") && error.contains("`http_listen`"), "{error}");

    let sources = Sources { environment: environment(&[("IMLINK_ROUTE_MAILBOXMAX", "1")]), ..Sources::default() };
    let error = load(Role::Gateway, sources).unwrap_err().to_string();
    assert!(error.contains("IMLINK_ROUTE_MAILBOXMAX") && error.contains("`route.mailbox_max`"), "{error}");
}

#[test]
fn a_wrong_value_names_its_key_and_where_it_was_set() {
    for (key, value) in [("http_listen", "8080"), ("route.mailbox_max", "many"), ("log_format", "xml")] {
        let sources = Sources { set: vec![format!("{key}={value}")], ..Sources::default() };
        let error = load(Role::Route, sources).unwrap_err().to_string();
        assert!(error.contains(key) && error.contains("--set") && error.contains(value), "{error}");
    }
    let (_dir, path) = file("[route]\nmailbox_max = 'many'\n");
    let sources = Sources { file: Some(path), ..Sources::default() };
    let error = load(Role::Route, sources).unwrap_err().to_string();
    assert!(error.contains("route.mailbox_max") && error.contains("imlink.toml"), "{error}");
}

#[test]
fn the_printed_configuration_hides_secrets_and_can_be_read_back() {
    let sources = || Sources {
        environment: environment(&[("IMLINK_TOKEN", "sesame-sesame-sesame")]),
        set: vec!["store_limits.event_age_max_s=60".into()],
        ..Sources::default()
    };
    for role in [Role::Gateway, Role::Route, Role::Server] {
        let printed = load(role, sources()).unwrap().print();
        assert!(!printed.contains("sesame"), "{printed}");
        assert!(printed.contains("event_age_max_s = 60") && printed.contains("# flag --set"), "{printed}");
        let (_dir, path) = file(&printed);
        let again = Sources { file: Some(path), ..Sources::default() };
        load(role, again).unwrap();
    }
}
