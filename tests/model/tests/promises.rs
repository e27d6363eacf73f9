//! The promises hold in every state that each scenario can reach, and at rest.

use imlink_model::{Scenario, explore, trace};

fn holds(name: &str) {
    let scenario = Scenario::named(name).expect("a scenario of that name");
    let found = explore(&scenario);
    println!("`{name}`: {} states, {} at rest, depth {}", found.states, found.at_rest, found.depth);
    if let Some((violation, moves)) = found.violation {
        panic!("{violation:?} after {} moves\n{}", moves.len(), trace(&scenario, &moves));
    }
    assert!(found.at_rest > 0, "nothing ever comes to rest");
}

macro_rules! hold {
    ($($test:ident: $scenario:literal),* $(,)?) => {$(
        #[test]
        fn $test() {
            holds($scenario);
        }
    )*};
}

hold! {
    promises_hold_over_a_bad_link: "link",
    promises_hold_over_a_power_loss: "power",
    promises_hold_for_a_device_that_forgets_its_cursor: "forgetful",
    a_late_append_to_a_device_that_forgets_is_marked: "forgetful-late",
    everything_goes_out_without_waiting_for_a_heartbeat: "prompt",
    retried_late_and_killed_appends_store_once: "retry",
    a_retry_after_its_id_was_evicted_stores_nothing: "overrun",
    a_repeated_request_with_its_key_stores_once: "repeated",
    a_rollback_loses_nothing_newer: "rollback",
    a_rollback_to_nothing_loses_nothing_newer: "rollback-to-nothing",
    a_rollback_and_a_power_loss_lose_nothing_newer: "rollback-power",
    a_rollback_and_a_drop_lose_nothing_newer: "rollback-drop",
    a_retry_over_a_rollback_stores_once: "rollback-retry",
    two_rollbacks_lose_nothing_newer: "two-rollbacks",
    an_unnoticed_rollback_is_found_before_the_next_append: "unnoticed",
    two_unnoticed_rollbacks_are_found: "unnoticed-twice",
    an_expired_message_says_whether_it_may_have_run: "expiry",
    an_expiry_in_the_middle_keeps_the_order: "expiry-order",
    an_expiry_over_a_rollback_stays_honest: "expiry-rollback",
    a_refusal_is_told: "refusal",
    poison_is_given_up_and_the_next_goes_out: "poison",
    a_flapping_link_fails_nothing_too_early: "flapping",
    one_session_over_two_servers_and_a_crash: "servers",
    one_session_while_dead_sockets_go_unnoticed: "servers-half-open",
    one_session_over_rollback_and_reboot: "servers-rollback",
    a_forgotten_session_is_written_again: "reassert",
    one_session_over_reboots: "reboot",
    a_call_runs_once_and_is_answered: "calls",
    calls_by_a_stale_cache_are_answered: "calls-half-open",
    an_event_is_counted_once: "events",
    an_event_from_ram_is_counted_once: "events-in-ram",
    a_revoked_device_is_not_attached: "revocation",
}
