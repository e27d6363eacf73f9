//! Each rule of DESIGN §5–§7 is needed: broken, the model finds a promise that breaks with it.
//!
//! A failed search prints that the promises hold; a successful one prints the shortest trace (`--no-capture`).

use imlink_model::{Rule, Scenario, Violation, explore, trace};

fn broken(name: &str, rules: &[Rule]) -> Option<Violation> {
    let scenario = Scenario::named(name).expect("a scenario of that name");
    let scenario = rules.iter().fold(scenario, |s, r| s.breaking(*r));
    let found = explore(&scenario);
    let (violation, moves) = found.violation?;
    println!("{rules:?} in `{name}`: {violation:?} after {} moves", moves.len());
    println!("{}", trace(&scenario, &moves));
    Some(violation)
}

macro_rules! needed {
    ($($test:ident: $($rule:ident)|+ in $scenario:literal breaks $violation:pat),* $(,)?) => {$(
        #[test]
        fn $test() {
            let found = broken($scenario, &[$(Rule::$rule),+]);
            assert!(matches!(found, Some($violation)), "found {found:?}");
        }
    )*};
}

use Violation::*;

needed! {
    // §6.2
    an_append_that_does_not_raise_offered_leaves_a_second_handing_unmarked: AppendRaisesOffered in "forgetful" breaks Unmarked(_),
    a_found_append_that_does_not_raise_offered_leaves_a_second_handing_unmarked: FoundAppendRaisesOffered in "forgetful-late" breaks Unmarked(_),
    a_retry_that_does_not_look_for_its_id_doubles: RetryReadsRecentIds in "retry" breaks Doubled(_),
    a_first_try_overtaken_by_its_retry_doubles: FirstTryReadsRecentIds in "retry" breaks Doubled(_),
    a_retry_whose_id_was_evicted_doubles: RingOverrunIsUnknown in "overrun" breaks Doubled(_),
    a_retry_under_a_new_lineage_doubles: NewLineageIsUnknown in "rollback-retry" breaks Doubled(_),
    a_repeated_request_without_its_key_doubles: IdempotencyKeyIsRemembered in "repeated" breaks Doubled(_),
    an_append_that_does_not_tell_the_session_waits_for_a_heartbeat: AppendReturnsSession in "prompt" breaks Lost(_),
    // §6.3
    a_counted_epoch_below_the_devices_own_repeats: EpochIsTheTime | EpochExceedsDevicesLast in "rollback-retry" breaks OldEndedNew(_) | OldReplacedNew(_),
    a_counted_epoch_below_the_tickets_floor_repeats: EpochIsTheTime | EpochExceedsTicketsFloor in "rollback-under-login" breaks OldEndedNew(_),
    a_late_attempt_beats_a_newer_one: LateAttemptIsRefused in "link" breaks OldReplacedNew(_),
    a_late_attach_of_an_earlier_boot_beats_a_newer_one: OtherBootNamesTheEpoch in "reboot" breaks OldReplacedNew(_),
    an_epoch_by_counting_repeats: EpochIsTheTime in "servers-rollback" breaks OldReplacedNew(_) | OldEndedNew(_),
    a_refused_repeat_of_an_attach_never_kicks: EqualAttemptIsSameAttach in "servers-half-open" breaks OldNeverClosed(_),
    a_repeated_attach_that_forgets_whom_it_replaced_never_kicks: SameAttachReturnsReplaced in "servers-half-open" breaks OldNeverClosed(_),
    a_revoked_device_attaches: RevokedIsRefused in "revocation" breaks RevokedAttached,
    an_attach_that_trims_nothing_leaves_one_sent_for_ever: AttachTrimsToCursor in "rollback" breaks Lost(_),
    a_cursor_by_sequence_alone_trims_newer_ones: CursorTrimsByThePair in "rollback" breaks FalseState(..) | Lost(_),
    an_attach_that_hides_whom_it_replaced_never_kicks: AttachReturnsReplaced in "servers-half-open" breaks OldNeverClosed(_),
    what_was_offered_before_goes_out_unmarked: OfferedIsRedelivered in "forgetful" breaks Unmarked(_),
    an_attach_gives_more_than_the_window: AttachGivesAtMostAWindow in "prompt" breaks WindowExceeded,
    poison_blocks_the_mailbox: PoisonIsGivenUp in "poison" breaks NotAttached | Lost(_),
    attempts_counted_over_progress_fail_too_early: ProgressResetsAttempts in "flapping" breaks FalseState(..),
    a_read_that_does_not_raise_offered_leaves_a_second_handing_unmarked: ReadRaisesOffered in "forgetful" breaks Unmarked(_),
    a_counted_epoch_lets_a_late_detach_of_an_earlier_run_remove_a_newer_session: EpochIsTheTime | DetachNamesTheIncarnation in "servers-rollback" breaks OldEndedNew(_),
    a_late_detach_removes_a_newer_session: DetachNamesTheEpoch in "link" breaks OldEndedNew(_),
    a_dead_connection_takes_a_newer_one_out_of_the_table: TableRemovesOwnEntry in "link" breaks OldEndedNew(_),
    // §6.4
    a_repeated_ack_trims_what_nobody_handled: AcknowledgeIsAMaximum in "link" breaks FalseState(..) | Lost(_),
    an_expired_message_without_its_outcome_reads_acked: OutcomesAreKept in "expiry" breaks FalseState(..),
    an_outcome_pushed_out_of_the_ring_reads_acked: OlderThanTheRingIsUnknown in "refusal" breaks FalseState(..),
    a_lost_ack_leaves_a_message_sent_for_ever: AckIsRetried | HeartbeatComparesFirst in "link" breaks Lost(_),
    acked_before_it_is_stored_is_taken_back: AckedAfterStored in "expiry" breaks StateWentBack(..),
    an_offered_message_expires_as_if_it_never_ran: OfferedMayHaveRun in "expiry" breaks FalseState(..),
    an_ack_written_before_an_earlier_nack_hides_it: NackBeforeLaterAck in "refusal" breaks FalseState(..),
    a_cursor_over_a_nack_that_was_lost_reads_acked: NacksComeWithHello in "refusal" breaks FalseState(..),
    // §6.5
    a_rollback_without_a_generation_loses_a_newer_message: NewLineageOpensGeneration in "rollback" breaks StateWentBack(..),
    a_generation_by_counting_repeats: GenerationIsTheTime in "two-rollbacks" breaks StateWentBack(..),
    a_generation_below_the_devices_own_repeats: GenerationIsTheTime | GenerationExceedsDevices in "unnoticed-twice" breaks FalseState(..),
    renumbered_survivors_are_not_found_by_their_ids: SurvivorsKeepTheirIds in "rollback" breaks FalseState(..),
    survivors_handed_over_again_are_unmarked: NewLineageRaisesOffered in "rollback-power" breaks Unmarked(_),
    expired_survivors_claim_that_they_never_ran: OtherLineageMayHaveRun in "expiry-rollback" breaks FalseState(..),
    an_unnoticed_rollback_and_a_new_attach_lose_a_newer_message: CursorAheadOpensGeneration in "unnoticed" breaks Lost(_) | FalseState(..),
    a_cursor_below_what_was_received_hides_a_rollback: HelloNamesReceived in "unnoticed" breaks Lost(_) | FalseState(..),
    an_unnoticed_rollback_under_a_live_session_loses_a_newer_message: SentAheadOpensGeneration in "unnoticed" breaks Lost(_) | FalseState(..),
    a_lost_message_reads_as_the_one_that_has_its_sequence: StateNamesTheGeneration in "rollback" breaks FalseState(..),
    a_survivor_below_the_cursor_reads_acked: DoubtfulTrimIsUnknown in "expiry-rollback" breaks FalseState(..),
    a_forgotten_session_stays_forgotten: SessionIsReasserted in "rollback" breaks NotAttached,
    an_old_session_is_reasserted_over_a_newer_one: ReassertNamesTheEpoch in "reassert" breaks OldReplacedNew(_),
    a_reasserted_session_without_its_attempt_is_beaten_by_an_older: ReassertRestoresAttempt in "rollback-drop" breaks OldReplacedNew(_),
    // §4, §9
    a_message_in_the_handler_is_handed_over_again: DropsWhatIsInHandler in "link" breaks Doubled(_),
    a_handled_message_is_handed_over_again: DropsBelowCursor in "link" breaks Doubled(_),
    an_ack_is_taken_for_the_newer_generation: AcksBelongToAnsweredGeneration in "rollback" breaks FalseState(..),
    an_ack_in_a_foreign_generation_trims_what_nobody_handled: AcksNameTheirGeneration in "rollback-drop" breaks FalseState(..),
    an_ack_at_handing_over_claims_too_much: HandlerReturnAcknowledges in "link" breaks FalseState(..),
    // §7 forwarding a send
    a_hung_up_client_takes_its_deliver_along: AppendOutlivesTheClient in "prompt" breaks Lost(_),
    a_lost_deliver_is_never_noticed: HeartbeatComparesLast in "link" breaks Lost(_),
    a_lost_deliver_after_a_rollback_is_never_noticed: HeartbeatComparesGeneration in "rollback" breaks Lost(_),
    an_ack_that_the_store_lost_is_never_noticed: HeartbeatComparesFirst in "rollback" breaks Lost(_),
    a_deliver_out_of_turn_goes_straight: OnlyNextGoesStraight in "prompt" breaks OutOfOrder(_),
    a_deliver_of_the_next_generation_goes_straight: StraightOnlyInGeneration in "rollback-to-nothing" breaks OutOfOrder(_),
    a_deliver_into_a_full_window_goes_straight: StraightOnlyInWindow in "prompt" breaks WindowExceeded,
    a_deliver_out_of_turn_is_forgotten: ElseMoreWaiting in "prompt" breaks Lost(_),
    a_deliver_while_attaching_is_forgotten: AttachingSetsMoreWaiting in "prompt" breaks Lost(_),
    a_flag_cleared_by_the_reply_forgets_a_deliver: ReadClearsFlagWhenAsked in "prompt" breaks Lost(_),
    a_reply_to_an_earlier_read_goes_out_again: ReadSkipsWhatWasSent | DropsBelowCursor in "prompt" breaks Doubled(_),
    // §7 forwarding a call
    a_call_while_attaching_is_denied: CallWaitsWhileAttaching | NotHereNamesTheEpoch in "calls" breaks CallDenied(_),
    a_stale_cache_says_offline: LooksUpBeforeOffline in "calls-half-open" breaks CallDenied(_),
    a_device_not_yet_in_the_table_is_denied: TableBeforeAttach | NotHereNamesTheEpoch in "calls" breaks CallDenied(_),
    a_moved_device_gets_the_call_twice: CallIsSentOnce in "calls" breaks CallTwice(_),
    a_late_call_starts: DeadlineAtHandlerStart in "calls" breaks CallLate(_),
    a_call_to_a_dead_incarnation_is_called_disconnected: RouteComparesIncarnation in "calls" breaks CallDoubted(_),
    a_broken_call_is_called_offline: BrokenIsDisconnected in "calls" breaks CallDenied(_),
    // §7 kick
    a_lost_kick_leaves_the_older_session: KickIsRetried in "servers-half-open" breaks OldNeverClosed(_),
    a_late_kick_closes_a_newer_session: KickNamesTheEpoch in "reboot" breaks OldEndedNew(_),
    a_kick_that_passes_an_attach_under_way_is_in_vain: KickReachesAttaching in "servers-half-open" breaks OldNeverClosed(_),
    a_reply_older_than_one_that_has_left_stays: AckIsRetried | LateReplyIsNotBelieved in "servers-half-open" breaks OldNeverClosed(_),
    a_late_reply_that_kicks_nobody: LateReplyStillKicks in "servers-rollback" breaks OldNeverClosed(_),
    // §6.6
    a_resent_event_counts_twice: EventsAreDeduplicated in "events" breaks EventTwice(_),
    a_queue_renamed_at_boot_counts_twice: QueueIncarnationOutlivesBoot in "events" breaks EventTwice(_),
    an_empty_queue_with_its_old_name_loses: EmptyQueueIsNewIncarnation in "events-in-ram" breaks EventLost(_),
    an_event_dropped_when_sent_is_lost: EventsAreKeptUntilAcked in "events" breaks EventLost(_),
}

#[test]
fn the_tickets_floor_alone_keeps_a_counted_epoch_from_repeating_under_a_login() {
    assert_eq!(broken("rollback-under-login", &[Rule::EpochIsTheTime]), None);
}

/// What becomes of a scenario when the rule is broken that others cover for.
fn is_covered_for(name: &str, rule: Rule) {
    let kept = Scenario::named(name).expect("a scenario of that name");
    let broken = explore(&kept.breaking(rule));
    assert_eq!(broken.violation, None, "{rule:?} in `{name}` is needed: it belongs above");
    // Its switch does something: other states can be reached.
    assert_ne!(broken.states, explore(&kept).states, "{rule:?} in `{name}`");
}

macro_rules! covered {
    ($($test:ident: $rule:ident in $scenario:literal),* $(,)?) => {$(
        #[test]
        fn $test() {
            is_covered_for($scenario, Rule::$rule);
        }
    )*};
}

// Broken alone, these change what happens and no promise breaks; decision 0001 says which rules cover for them.
covered! {
    an_attach_retried_for_a_dead_socket_breaks_no_promise: AttachRetriesWhileSocketLives in "link",
    a_read_of_another_session_breaks_no_promise: ReadNamesItsSession in "rollback",
    expiry_in_flight_breaks_no_promise: InFlightIsNotExpired in "expiry-order",
    two_reads_at_a_time_break_no_promise: OneReadAtATime in "prompt",
    a_reply_to_an_earlier_read_is_dropped_by_the_device: ReadSkipsWhatWasSent in "prompt",
    a_kick_of_a_dead_incarnation_breaks_no_promise: KickNamesTheIncarnation in "servers",
    a_route_that_keeps_its_cache_over_a_kick_breaks_no_promise: KickDropsRouteCache in "calls",
}
