//! What each role may do.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use imlink_protocol::id::{Cursor, Fingerprint, KeyMark, TokenId};
use imlink_protocol::key::Key;
use imlink_store::acl::{Role, rules};
use imlink_store::audit::AuditRecord;
use imlink_store::event::{EventBatch, Position, SHARDS};
use imlink_store::mailbox::{Acknowledge, Append, Appended, Read};
use imlink_store::node::{Enrolled, JoinToken, NodeRole};
use imlink_store::session::{Attach, Attached, Proof};
use imlink_store::token::{Token, TokenAdded};
use imlink_store::{Config, DeviceKey, Error, Store, lease};

use crate::redis_server::RedisServer;

const MINUTE: Duration = Duration::from_secs(60);
const INTERFACE: Fingerprint = Fingerprint([7; 16]);

/// A Redis that nobody enters without a password, with a user for each role, and one who may look.
pub(crate) struct Guarded {
    server: RedisServer,
    root: redis::Connection,
}

impl Guarded {
    pub(crate) fn start() -> Self {
        let server = RedisServer::start();
        for role in Role::ALL {
            server.set_user(role.name(), &[role]);
        }
        let mut first = server.connection();
        let root = ["SETUSER", "root", "on", ">root", "allkeys", "allcommands"];
        redis::cmd("ACL").arg(&root).exec(&mut first).expect("a user can be made");
        redis::cmd("ACL").arg(&["SETUSER", "default", "off"]).exec(&mut first).expect("it can be shut out");
        let client = redis::Client::open(server.url_of("root")).expect("is an address");
        Self { root: client.get_connection().expect("it answers"), server }
    }

    /// The store as `role` opens it; in a database of its own choice, which is one more command.
    pub(crate) async fn open(&self, role: Role) -> Store {
        self.open_with(role, Config::default()).await
    }

    pub(crate) async fn open_with(&self, role: Role, config: Config) -> Store {
        let url = format!("{}1", self.server.url_of(role.name()));
        Store::redis(&url, config).await.unwrap_or_else(|error| panic!("{role} cannot connect: {error}"))
    }

    pub(crate) fn raw(&self, role: Role) -> redis::Connection {
        let client = redis::Client::open(format!("{}1", self.server.url_of(role.name()))).expect("is an address");
        client.get_connection().expect("it answers")
    }

    fn forget_statistics(&mut self) {
        redis::cmd("CONFIG").arg("RESETSTAT").exec(&mut self.root).expect("root may");
    }

    /// The commands that ran since, those of scripts too.
    fn commands(&mut self) -> BTreeSet<String> {
        let info: String = redis::cmd("INFO").arg("commandstats").query(&mut self.root).expect("root may");
        let names = info.lines().filter_map(|line| line.strip_prefix("cmdstat_")?.split(':').next());
        names.map(str::to_owned).collect()
    }
}

pub(crate) fn lamp() -> DeviceKey {
    DeviceKey::single("lamp").expect("is a device id")
}

fn message(n: u8) -> Append {
    Append {
        device: lamp(),
        id: [n; 16],
        retry: false,
        key: Key([1, 2, 3, n]),
        fingerprint: Fingerprint::NONE,
        token: TokenId::NONE,
        ttl_s: 60,
        payload: Bytes::from_static(b"payload"),
        mailbox_max: 1000,
    }
}

/// Everything that routes ask of the store; a device is attached or not, messages wait or not.
async fn as_route(store: &Store) {
    store.ping().await.expect("ping");
    store.provision(&lamp(), Proof::Plain).await.expect("provision");
    store.identity(&lamp()).await.expect("identity");
    assert_eq!(store.devices("-", "", 10).await.expect("devices"), [lamp()]);
    let Appended::Stored(first) = store.append(&message(1)).await.expect("append") else { panic!("not stored") };
    let Appended::Stored(last) = store.append(&message(2)).await.expect("append") else { panic!("not stored") };
    store.message_state(&lamp(), first.id).await.expect("message_state");
    store.cancel(&lamp(), last.id).await.expect("cancel");
    store.idempotent("-", "key", [1; 32]).await.expect("idempotent");
    store.idempotent_done("-", "key", b"answer").await.expect("idempotent_done");
    store.read_events("-", 0, Position::default(), 10).await.expect("read_events");
    store.wait_events("-", &[Position::default(); SHARDS], 10, Duration::from_millis(1)).await.expect("wait_events");
    store.event_tails("-").await.expect("event_tails");
    store.commit_events("-", "group", 0, Position { ms: 1, n: 0 }).await.expect("commit_events");
    store.committed_events("-", "group").await.expect("committed_events");
    store.interface("-", INTERFACE).await.expect("interface");
    let route = lease::Route { name: "r1".into(), incarnation: 1, node_address: "127.0.0.1:1".into() };
    store.register_route(&route, MINUTE).await.expect("register_route");
    store.routes().await.expect("routes");
    store.remove_route("r1", 1).await.expect("remove_route");
    let server = lease::Server {
        name: "s1".into(),
        incarnation: 1,
        device_address: "127.0.0.1:2".into(),
        capacity: 1,
        labels: String::new(),
    };
    store.register_server(&server, MINUTE).await.expect("register_server");
    store.servers().await.expect("servers");
    store.remove_server("s1", 1).await.expect("remove_server");
    as_keeper_of_tokens(store).await;
}

async fn as_keeper_of_tokens(store: &Store) {
    let id = TokenId([4; 8]);
    assert_eq!(store.add_token(&backend_token(id)).await.expect("add_token"), TokenAdded::Added);
    assert!(store.token(id).await.expect("token").is_some());
    assert_eq!(store.tokens("-").await.expect("tokens").len(), 1);
    assert!(store.revoke_token("-", id).await.expect("revoke_token").is_some());
    let revocations = store.revocations(None).await.expect("revocations").expect("none are known");
    assert_eq!(revocations.ids, [id]);
    let record = AuditRecord { who: id, what: "token-added".into(), object: "it".into(), from: "local".into() };
    store.add_audit("-", &record).await.expect("add_audit");
    assert_eq!(store.audit("-", None, 10).await.expect("audit").len(), 1);
    assert_eq!(store.audit("-", Some(Position::default()), 10).await.expect("audit").len(), 1);
}

fn backend_token(id: TokenId) -> Token {
    Token {
        id,
        secret_hash: [5; 32],
        tenant: "-".into(),
        name: "lights".into(),
        scopes: "send".into(),
        rate: 0,
        created_ms: 1,
        expires_ms: 0,
        revoked_ms: 0,
    }
}

async fn forget_device(store: &Store) {
    store.revoke(&lamp()).await.expect("revoke");
    store.restore(&lamp()).await.expect("restore");
    store.set_next_key(&lamp(), &[1; 32]).await.expect("set_next_key");
    store.promote_key(&lamp(), &[1; 32]).await.expect("promote_key");
    store.remove(&lamp()).await.expect("remove");
}

/// Everything that IM-servers ask of it, with one message waiting.
async fn as_server(store: &Store) {
    store.ping().await.expect("ping");
    store.identity(&lamp()).await.expect("identity");
    let attach = |attempt| Attach {
        device: lamp(),
        server: "s1".into(),
        server_incarnation: 1,
        incarnation: 2,
        attempt,
        key: KeyMark::PLAIN,
        epoch_floor: 0,
        cursor: Cursor::default(),
        fingerprint: Fingerprint::NONE,
        receive_limit: 4096,
        event_queue: 3,
        window: 16,
    };
    let Attached::Session(new) = store.attach(&attach(1)).await.expect("attach") else { panic!("not attached") };
    store.heads(&[lamp()]).await.expect("heads");
    let read = Read { device: lamp(), epoch: new.epoch, after: Cursor::default(), limit: 10 };
    store.read_mailbox(&read).await.expect("read_mailbox");
    store.put_interface("-", INTERFACE, b"speaks").await.expect("put_interface");
    store.interface("-", INTERFACE).await.expect("interface");
    let batch = EventBatch {
        device: lamp(),
        queue: 3,
        fingerprint: INTERFACE,
        events: vec![(1, Key([1; 4]), Bytes::from_static(b"on"))],
    };
    store.append_events(&[batch]).await.expect("append_events");
    store.reassert(&[]).await.expect("reassert");
    let last = new.entries.first().expect("a message waits").id;
    let ack = Acknowledge { device: lamp(), epoch: new.epoch, upto: last, rejected: Vec::new() };
    store.acknowledge(&[ack]).await.expect("acknowledge");
    assert!(store.detach(&lamp(), 1, new.epoch).await.expect("detach"));
    store.routes().await.expect("routes");
    store.revocations(None).await.expect("revocations");
}

async fn see_nodes(store: &Store) {
    store.nodes().await.expect("nodes");
    store.node(NodeRole::Route, "r1").await.expect("node");
}

fn token(id: u8) -> JoinToken {
    JoinToken { id: [id; 8], role: NodeRole::Server, expires_ms: 0, uses: 2 }
}

/// The commands that `role`'s rules name.
fn granted(role: Role) -> BTreeSet<String> {
    let rules = rules(&[role]).join(" ");
    let words = rules.split([' ', '(', ')']).filter_map(|word| word.strip_prefix('+'));
    words.map(str::to_owned).collect()
}

#[tokio::test]
async fn a_gateway_on_redis_does_everything_but_membership() {
    let guarded = Guarded::start();
    let store = guarded.open(Role::Gateway).await;
    as_route(&store).await;
    as_server(&store).await;
    forget_device(&store).await;
    assert!(store.enrol_node(NodeRole::Server, "s1", [1; 32], None).await.is_err());
    assert!(store.put_join_token(&token(1)).await.is_err());
}

#[tokio::test]
async fn route_server_and_admin_do_what_they_need_together() {
    let guarded = Guarded::start();
    let route = guarded.open(Role::Route).await;
    let server = guarded.open(Role::Server).await;
    let admin = guarded.open(Role::Admin).await;
    as_route(&route).await;
    as_server(&server).await;
    admin.ping().await.expect("ping");
    admin.put_join_token(&token(1)).await.expect("put_join_token");
    route.put_join_token(&token(2)).await.expect("put_join_token");
    assert_eq!(route.join_tokens().await.expect("join_tokens").len(), 2);
    let enrolled = route.enrol_node(NodeRole::Server, "s1", [1; 32], Some([1; 8])).await.expect("enrol_node");
    assert_eq!(enrolled, Enrolled::Yes);
    for store in [&route, &server, &admin] {
        see_nodes(store).await;
    }
    assert!(admin.remove_node(NodeRole::Server, "s1").await.expect("remove_node"));
    assert!(admin.remove_join_token([1; 8]).await.expect("remove_join_token"));
    forget_device(&route).await;
}

#[tokio::test]
async fn a_server_enrols_nobody_and_provisions_nobody() {
    let guarded = Guarded::start();
    let (route, server) = (guarded.open(Role::Route).await, guarded.open(Role::Server).await);
    route.provision(&lamp(), Proof::Plain).await.expect("a route may");
    let other = DeviceKey::single("other").expect("is a device id");
    let lease = lease::Route { name: "evil".into(), incarnation: 1, node_address: "127.0.0.1:1".into() };
    let refused = [
        server.enrol_node(NodeRole::Server, "evil", [6; 32], None).await.err(),
        server.put_join_token(&token(1)).await.err(),
        server.remove_node(NodeRole::Server, "s1").await.err(),
        server.provision(&other, Proof::Plain).await.err(),
        server.register_route(&lease, MINUTE).await.err(),
        server.devices("-", "", 10).await.err(),
        server.idempotent("-", "key", [1; 32]).await.err(),
        server.add_token(&backend_token(TokenId([4; 8]))).await.err(),
        server.token(TokenId([4; 8])).await.err(),
        server.tokens("-").await.err(),
        server.revoke_token("-", TokenId([4; 8])).await.err(),
        server.audit("-", None, 10).await.err(),
    ];
    for (which, error) in refused.into_iter().enumerate() {
        let Some(Error::Unusable(why)) = error else { panic!("refusal {which} is {error:?}") };
        assert!(why.contains("NOPERM"), "{which}: {why}");
    }
    assert_eq!(route.nodes().await.expect("nodes"), []);
    assert_eq!(route.devices("-", "", 10).await.expect("devices"), [lamp()]);
}

#[test]
fn no_role_gets_by_a_command_of_its_own_what_its_rules_keep_from_it() {
    let guarded = Guarded::start();
    let cases: &[(&[Role], &[&str])] = &[
        (&Role::ALL, &["FLUSHALL"]),
        (&Role::ALL, &["KEYS", "*"]),
        (&Role::ALL, &["SCAN", "0"]),
        (&Role::ALL, &["CONFIG", "GET", "*"]),
        (&Role::ALL, &["ACL", "LIST"]),
        (&Role::ALL, &["MONITOR"]),
        (&Role::ALL, &["SHUTDOWN"]),
        (&Role::ALL, &["REPLICAOF", "127.0.0.1", "1"]),
        (&Role::ALL, &["EVAL", "return 1", "0"]),
        (&Role::ALL, &["SET", "other", "1"]),
        (&[Role::Server, Role::Gateway], &["HSET", "im:n:{n}", "server/evil", "x"]),
        (&[Role::Server, Role::Gateway], &["HSET", "im:n:{n}:j", "12345678", "x"]),
        (&[Role::Server], &["HSET", "im:routes", "evil", "x"]),
        (&[Role::Server], &["HSET", "im:servers", "evil", "x"]),
        (&[Role::Server], &["ZADD", "im:d:{-}", "0", "evil"]),
        (&[Role::Server], &["GET", "im:i:{-/key}"]),
        (&[Role::Server], &["SET", "im:t:{tokens}:v", "0"]),
        (&[Role::Server], &["ZREM", "im:t:{tokens}:r", "x"]),
        (&[Role::Admin], &["HGET", "im:t:{tokens}", "x"]),
        (&[Role::Server, Role::Route, Role::Gateway], &["SET", "im:n:{n}", "x"]),
        (&[Role::Server], &["XREAD", "STREAMS", "im:e:{-/0}", "0"]),
        (&[Role::Admin], &["HGET", "im:{-/lamp}", "i"]),
        (&[Role::Admin], &["XRANGE", "im:e:{-/0}", "-", "+"]),
    ];
    for (roles, words) in cases {
        let [name, arguments @ ..] = words else { panic!("a command has a name") };
        for role in *roles {
            let answer: redis::RedisResult<redis::Value> =
                redis::cmd(name).arg(arguments).query(&mut guarded.raw(*role));
            let refused = answer.expect_err(&format!("{role} may {words:?}"));
            assert!(refused.to_string().contains("permission"), "{role} {words:?}: {refused}");
        }
    }
}

/// A script of somebody's own may be loaded, but runs with no more rights than its caller has.
#[test]
fn a_script_gives_no_rights_that_its_caller_lacks() {
    let guarded = Guarded::start();
    let mut server = guarded.raw(Role::Server);
    let code = "redis.call('HSET', KEYS[1], 'server/evil', 'x') return 1";
    let hash: String = redis::cmd("SCRIPT").arg("LOAD").arg(code).query(&mut server).expect("all may load");
    let mut call = redis::cmd("EVALSHA");
    let answer: redis::RedisResult<i64> = call.arg(&hash).arg(1).arg("im:n:{n}").query(&mut server);
    let refused = answer.expect_err("it must be refused").to_string();
    assert!(refused.contains("permission") || refused.contains("can't access"), "{refused}");
    let mut hidden = redis::cmd("SCRIPT");
    let code = "redis.call('HSET', 'im:n:{n}', 'server/evil', 'x') return 1";
    let hash: String = hidden.arg("LOAD").arg(code).query(&mut server).expect("all may load");
    let mut call = redis::cmd("EVALSHA");
    let answer: redis::RedisResult<i64> = call.arg(&hash).arg(1).arg("im:{-/lamp}").query(&mut server);
    let refused = answer.expect_err("it must be refused").to_string();
    assert!(refused.contains("permission") || refused.contains("can't access"), "{refused}");
}

#[tokio::test]
async fn no_role_is_granted_a_command_that_the_code_does_not_use() {
    let mut guarded = Guarded::start();
    guarded.forget_statistics();
    // All at once: the rules of all roles come from one list.
    let gateway = guarded.open(Role::Gateway).await;
    as_route(&gateway).await;
    as_server(&gateway).await;
    poison(&gateway).await;
    forget_device(&gateway).await;
    let mut used = guarded.commands();
    // Scripts use these on branches that only a lost link, a full mailbox or a rejection takes; the conformance
    // suite, which runs with these rules, takes them.
    for rare in ["client|kill", "lset", "ltrim", "lindex", "rpush", "hget", "xtrim", "hdel", "lpop", "srem"] {
        used.insert(rare.to_owned());
    }
    let granted = granted(Role::Gateway);
    let unused: Vec<_> = granted.difference(&used).collect();
    assert!(unused.is_empty(), "granted and never used: {unused:?}; used: {used:?}");
}

/// A rejection, an expiry and an outcome that is asked for.
async fn poison(store: &Store) {
    store.provision(&lamp(), Proof::Plain).await.expect("provision");
    let Appended::Stored(stored) = store.append(&message(9)).await.expect("append") else { panic!("not stored") };
    store.message_state(&lamp(), stored.id).await.expect("message_state");
}
