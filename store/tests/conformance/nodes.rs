//! Nodes and join tokens.

use imlink_store::Store;
use imlink_store::node::{Enrolled, JoinToken, NODES_MAX, NodeRole};

use crate::behaviours;

behaviours!(
    a_node_is_enrolled_by_a_token_and_then_known,
    a_token_enrols_as_many_nodes_as_it_says,
    a_token_that_is_over_or_for_another_role_enrols_nobody,
    a_name_is_not_taken_over_by_another_key,
    a_removed_key_stays_removed_and_another_one_may_follow,
    what_a_node_is_depends_on_its_role,
    the_number_of_nodes_is_bounded,
);

const FIRST: [u8; 32] = [0xf1; 32];
const OTHER: [u8; 32] = [0xf2; 32];
const ID: [u8; 8] = [0xfe, 1, 2, 3, 4, 5, 6, 7];

async fn enrol(store: &Store, name: &str, key: [u8; 32]) -> Enrolled {
    store.enrol_node(NodeRole::Server, name, key, Some(ID)).await.expect("store")
}

async fn put(store: &Store, uses: u32, expires_ms: u64) {
    let token = JoinToken { id: ID, role: NodeRole::Server, expires_ms, uses };
    store.put_join_token(&token).await.expect("store");
}

async fn a_node_is_enrolled_by_a_token_and_then_known(store: Store) {
    assert_eq!(enrol(&store, "s1", FIRST).await, Enrolled::NoToken);
    assert_eq!(store.nodes().await.expect("store"), []);
    put(&store, 0, 0).await;
    assert_eq!(enrol(&store, "s1", FIRST).await, Enrolled::Yes);
    let node = store.node(NodeRole::Server, "s1").await.expect("store").expect("it was enrolled");
    assert_eq!((node.key, node.is_removed, node.name.as_str()), (FIRST, false, "s1"));
    assert!(node.enrolled_ms > 1_700_000_000_000);
    assert_eq!(store.nodes().await.expect("store"), [node]);
}

async fn a_token_enrols_as_many_nodes_as_it_says(store: Store) {
    put(&store, 2, 0).await;
    assert_eq!(enrol(&store, "s1", FIRST).await, Enrolled::Yes);
    // Asking again uses nothing.
    assert_eq!(enrol(&store, "s1", FIRST).await, Enrolled::Yes);
    assert_eq!(store.join_tokens().await.expect("store")[0].uses, 1);
    assert_eq!(enrol(&store, "s2", OTHER).await, Enrolled::Yes);
    assert_eq!(store.join_tokens().await.expect("store"), []);
    assert_eq!(enrol(&store, "s3", [3; 32]).await, Enrolled::NoToken);
}

async fn a_token_that_is_over_or_for_another_role_enrols_nobody(store: Store) {
    put(&store, 0, store.now_ms().await.expect("store") - 1).await;
    assert_eq!(enrol(&store, "s1", FIRST).await, Enrolled::NoToken);
    assert_eq!(store.join_tokens().await.expect("store"), []);
    put(&store, 0, store.now_ms().await.expect("store") + 60_000).await;
    let as_route = store.enrol_node(NodeRole::Route, "r1", FIRST, Some(ID)).await.expect("store");
    assert_eq!(as_route, Enrolled::NoToken);
    assert_eq!(enrol(&store, "s1", FIRST).await, Enrolled::Yes);
    assert!(store.remove_join_token(ID).await.expect("store"));
    assert!(!store.remove_join_token(ID).await.expect("store"));
    assert_eq!(enrol(&store, "s2", OTHER).await, Enrolled::NoToken);
}

async fn a_name_is_not_taken_over_by_another_key(store: Store) {
    put(&store, 2, 0).await;
    assert_eq!(enrol(&store, "s1", FIRST).await, Enrolled::Yes);
    assert_eq!(enrol(&store, "s1", OTHER).await, Enrolled::NameTaken);
    assert_eq!(store.node(NodeRole::Server, "s1").await.expect("store").expect("enrolled").key, FIRST);
    assert_eq!(store.join_tokens().await.expect("store")[0].uses, 1, "a refusal uses nothing");
}

async fn a_removed_key_stays_removed_and_another_one_may_follow(store: Store) {
    put(&store, 0, 0).await;
    assert!(!store.remove_node(NodeRole::Server, "s1").await.expect("store"));
    enrol(&store, "s1", FIRST).await;
    assert!(store.remove_node(NodeRole::Server, "s1").await.expect("store"));
    assert!(!store.remove_node(NodeRole::Server, "s1").await.expect("store"));
    assert!(store.node(NodeRole::Server, "s1").await.expect("store").expect("kept").is_removed);
    assert_eq!(enrol(&store, "s1", FIRST).await, Enrolled::Removed);
    assert_eq!(enrol(&store, "s1", OTHER).await, Enrolled::Yes);
    let node = store.node(NodeRole::Server, "s1").await.expect("store").expect("enrolled");
    assert_eq!((node.key, node.is_removed), (OTHER, false));
}

async fn what_a_node_is_depends_on_its_role(store: Store) {
    let route = store.enrol_node(NodeRole::Route, "n", FIRST, None).await.expect("store");
    assert_eq!(route, Enrolled::Yes);
    assert_eq!(store.node(NodeRole::Server, "n").await.expect("store"), None);
    store.enrol_node(NodeRole::Server, "n", OTHER, None).await.expect("store");
    assert!(store.remove_node(NodeRole::Server, "n").await.expect("store"));
    assert!(!store.node(NodeRole::Route, "n").await.expect("store").expect("enrolled").is_removed);
}

async fn the_number_of_nodes_is_bounded(store: Store) {
    for n in 0..NODES_MAX {
        let enrolled = store.enrol_node(NodeRole::Server, &format!("s{n}"), FIRST, None).await.expect("store");
        assert_eq!(enrolled, Enrolled::Yes);
    }
    assert_eq!(store.enrol_node(NodeRole::Server, "one-more", FIRST, None).await.expect("store"), Enrolled::Full);
    assert_eq!(store.enrol_node(NodeRole::Server, "s1", FIRST, None).await.expect("store"), Enrolled::Yes);
}
