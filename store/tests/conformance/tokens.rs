//! Tokens, revocations, audit records, and which token a message came with.

use std::collections::HashSet;
use std::time::Duration;

use imlink_protocol::id::{Fingerprint, TokenId};
use imlink_store::audit::AuditRecord;
use imlink_store::limits::{AUDIT_MAX, TOKENS_PER_TENANT_MAX};
use imlink_store::mailbox::Append;
use imlink_store::session::Attach;
use imlink_store::token::{Token, TokenAdded};
use imlink_store::{RevokedTokens, Store};

use crate::behaviours;
use crate::scene::*;

behaviours!(
    a_token_reads_back_as_it_was_added,
    a_tenant_sees_and_revokes_only_its_own_tokens,
    a_revoked_token_stays_revoked_and_is_told_once,
    past_its_limit_a_tenant_gets_no_token_until_old_ones_are_over,
    those_who_watch_hear_of_a_revocation_within_two_seconds,
    an_entry_remembers_the_token_that_sent_it,
    the_newest_audit_records_of_each_tenant_are_kept,
);

fn token(number: u64, tenant: &str) -> Token {
    Token {
        id: TokenId(number.to_be_bytes()),
        secret_hash: [number as u8; 32],
        tenant: tenant.into(),
        name: "billing".into(),
        scopes: "send,call:lamp-*".into(),
        rate: 4_000_000_000,
        created_ms: (1 << 53) - 1,
        expires_ms: 1_764_000_000_000,
        revoked_ms: 0,
    }
}

async fn a_token_reads_back_as_it_was_added(store: Store) {
    let full = token(u64::MAX, "acme");
    let bare = Token { name: String::new(), scopes: String::new(), expires_ms: 0, rate: 0, ..token(1, "-") };
    for token in [&full, &bare] {
        assert_eq!(store.token(token.id).await.expect("store"), None);
        assert_eq!(store.add_token(token).await.expect("store"), TokenAdded::Added);
        assert_eq!(store.token(token.id).await.expect("store").as_ref(), Some(token));
        let other = Token { secret_hash: [0; 32], ..token.clone() };
        assert_eq!(store.add_token(&other).await.expect("store"), TokenAdded::Exists);
    }
    assert_eq!(store.token(full.id).await.expect("store"), Some(full));
}

async fn a_tenant_sees_and_revokes_only_its_own_tokens(store: Store) {
    for token in [token(1, "a"), token(2, "b"), token(3, "a")] {
        store.add_token(&token).await.expect("store");
    }
    let ids = async |tenant| -> Vec<TokenId> {
        store.tokens(tenant).await.expect("store").iter().map(|token| token.id).collect()
    };
    assert_eq!(ids("a").await, [token(1, "a").id, token(3, "a").id]);
    assert_eq!(ids("b").await, [token(2, "b").id]);
    assert_eq!(ids("").await, []);
    assert_eq!(store.revoke_token("b", token(1, "a").id).await.expect("store"), None);
    assert_eq!(store.revoke_token("", token(1, "a").id).await.expect("store"), None);
    assert_eq!(store.token(token(1, "a").id).await.expect("store").expect("is there").revoked_ms, 0);
}

async fn a_revoked_token_stays_revoked_and_is_told_once(store: Store) {
    let none = store.revocations(None).await.expect("store").expect("nothing was known");
    assert_eq!(none.ids, []);
    assert!(store.revocations(Some(none.version)).await.expect("store").is_none());
    let (one, two) = (token(1, "-"), token(2, "-"));
    store.add_token(&one).await.expect("store");
    store.add_token(&two).await.expect("store");
    assert!(store.revocations(Some(none.version)).await.expect("store").is_none());
    let revoked = store.revoke_token("-", one.id).await.expect("store").expect("is there");
    assert!(revoked.revoked_ms > 0);
    assert_eq!(Token { revoked_ms: 0, ..revoked.clone() }, one);
    assert_eq!(store.revoke_token("-", one.id).await.expect("store"), Some(revoked));
    let first = store.revocations(Some(none.version)).await.expect("store").expect("there is news");
    assert_eq!(first.ids, [one.id]);
    assert!(store.revocations(Some(first.version)).await.expect("store").is_none());
    store.revoke_token("-", two.id).await.expect("store");
    let second = store.revocations(Some(first.version)).await.expect("store").expect("there is news");
    assert_eq!(second.ids.into_iter().collect::<HashSet<_>>(), HashSet::from([one.id, two.id]));
}

async fn past_its_limit_a_tenant_gets_no_token_until_old_ones_are_over(store: Store) {
    let living = |number: u64| Token { expires_ms: 0, ..token(number, "a") };
    for number in 1..TOKENS_PER_TENANT_MAX as u64 {
        assert_eq!(store.add_token(&living(number)).await.expect("store"), TokenAdded::Added);
    }
    let long_over = Token { expires_ms: 1, ..token(1 << 40, "a") };
    assert_eq!(store.add_token(&long_over).await.expect("store"), TokenAdded::Added);
    // The one that is long over makes room.
    assert_eq!(store.add_token(&living(1 << 41)).await.expect("store"), TokenAdded::Added);
    assert_eq!(store.token(long_over.id).await.expect("store"), None);
    assert_eq!(store.add_token(&living(1 << 42)).await.expect("store"), TokenAdded::Full);
    assert_eq!(store.add_token(&token(1 << 43, "b")).await.expect("store"), TokenAdded::Added);
}

async fn those_who_watch_hear_of_a_revocation_within_two_seconds(store: Store) {
    let watch = RevokedTokens::watch(&store, &tokio::runtime::Handle::current());
    let one = token(1, "-");
    store.add_token(&one).await.expect("store");
    let until = async |is_there: &dyn Fn() -> bool| {
        let wait = async {
            while !is_there() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(2), wait).await.expect("within 2 s");
    };
    until(&|| watch.is_known()).await;
    assert!(!watch.contains(one.id) && !watch.contains(TokenId::NONE));
    let reads = watch.reads();
    store.revoke_token("-", one.id).await.expect("store");
    until(&|| watch.contains(one.id)).await;
    assert!(watch.reads() > reads);
    assert!(!watch.contains(token(2, "-").id));
}

async fn an_entry_remembers_the_token_that_sent_it(store: Store) {
    let device = lamp(&store).await;
    let id = TokenId([0xff, 0, 2, 3, 4, 5, 6, 7]);
    for (fingerprint, boot) in [(Fingerprint::NONE, 1), (Fingerprint([9; 16]), 2)] {
        let new = attach(&store, &Attach { fingerprint, attempt: boot, ..hello(&device) }).await;
        store.detach(&device, hello(&device).server_incarnation, new.epoch).await.expect("store");
        append(&store, &Append { fingerprint, token: id, ..message(&device, boot as u8 * 2) }).await;
        append(&store, &Append { fingerprint, ..message(&device, boot as u8 * 2 + 1) }).await;
    }
    let new = attach(&store, &Attach { attempt: 3, ..hello(&device) }).await;
    let found: Vec<_> = new
        .entries
        .iter()
        .map(|entry| (entry.payload.first().copied().unwrap_or(0), entry.token, entry.fingerprint.is_some()))
        .collect();
    assert_eq!(
        found,
        [(2, id, false), (3, TokenId::NONE, false), (4, id, true), (5, TokenId::NONE, true)],
        "payload, token, interface"
    );
    assert!(new.entries.iter().all(|entry| entry.payload.len() == 16));
}

async fn the_newest_audit_records_of_each_tenant_are_kept(store: Store) {
    let record = |number: usize| AuditRecord {
        who: TokenId([number as u8; 8]),
        what: "device-provisioned".into(),
        object: number.to_string(),
        from: "127.0.0.1:1".into(),
    };
    let numbers = |records: &[(_, AuditRecord)]| -> Vec<String> {
        records.iter().map(|(_, record)| record.object.clone()).collect()
    };
    assert_eq!(store.audit("a", None, 10).await.expect("store"), []);
    for number in 1..=AUDIT_MAX + 2 {
        store.add_audit("a", &record(number)).await.expect("store");
    }
    store.add_audit("b", &record(7)).await.expect("store");
    let newest = store.audit("a", None, 2).await.expect("store");
    assert_eq!(numbers(&newest), ["10001", "10002"]);
    assert_eq!(newest[1].1, record(10_002));
    assert_eq!(numbers(&store.audit("a", Some(newest[0].0), 5).await.expect("store")), ["10002"]);
    let all = store.audit("a", Some(Default::default()), 20_000).await.expect("store");
    assert_eq!((all.len(), all[0].1.object.as_str()), (AUDIT_MAX, "3"));
    assert_eq!(numbers(&store.audit("b", None, 10).await.expect("store")), ["7"]);
}
