//! The checks bite: every planted bug of `PLANTED` is found within `FOUND_WITHIN` seeds.

use sim::{FOUND_WITHIN, PLANTED, first_to_find, play_control};

/// Asserts that the bug of this name is found, and that it is the bug that is found: the same seed finds nothing without it.
fn assert_found(name: &str) {
    let known = PLANTED.iter().find(|(planted, _)| planted.name() == name);
    let (planted, seed) = known.expect("the bug is in PLANTED");
    let found = first_to_find(*planted, *seed);
    let found = found.unwrap_or_else(|| panic!("{name} was not found within {FOUND_WITHIN} seeds"));
    if let Err(finding) = play_control(found, *planted) {
        panic!(
            "seed {found} finds something without {name}: {}",
            finding.what
        );
    }
}

#[test]
fn an_acknowledgement_by_one_replica_alone_is_found() {
    assert_found("volume-AckFirstReplica");
}

#[test]
fn an_unmap_lost_by_a_drain_is_found() {
    assert_found("volume-ForgetUnmap");
}

#[test]
fn a_flush_that_asks_nobody_is_found() {
    assert_found("volume-DropFlush");
}

#[test]
fn a_read_without_the_replicas_word_is_found() {
    assert_found("volume-SkipReadConfirmation");
}

#[test]
fn records_left_out_of_a_segment_change_is_found() {
    assert_found("volume-DropInflight");
}

#[test]
fn a_segment_the_catalog_does_not_know_is_found() {
    assert_found("volume-UnregisteredSegment");
}

#[test]
fn an_extent_id_used_twice_is_found() {
    assert_found("volume-ReuseExtentId");
}

#[test]
fn a_drain_across_a_barrier_is_found() {
    assert_found("volume-DrainAcrossBarrier");
}

#[test]
fn a_collection_that_forgets_snapshots_is_found() {
    assert_found("collect-snapshots");
}

#[test]
fn a_collection_of_what_is_in_flight_is_found() {
    assert_found("collect-in-flight");
}

#[test]
fn a_takeover_that_fences_nobody_is_found() {
    assert_found("volume-SkipFence");
}

#[test]
fn a_store_that_accepts_an_older_epoch_is_found() {
    assert_found("store-AcceptStaleEpoch");
}

#[test]
fn a_store_that_does_not_flush_is_found() {
    assert_found("store-SkipFlush");
}

#[test]
fn a_takeover_that_does_not_wait_for_the_old_owners_reads_is_found() {
    assert_found("volume-SkipTakeoverWait");
}

#[test]
fn a_root_that_refers_to_extents_without_a_flush_is_found() {
    assert_found("volume-SkipExtentFlush");
}

#[test]
fn a_recovery_from_the_shortest_replica_is_found() {
    assert_found("volume-RecoverShortest");
}

#[test]
fn a_promise_forgotten_across_a_restart_is_found() {
    assert_found("store-ForgetPromise");
}

#[test]
fn an_acknowledgement_before_the_write_is_found() {
    assert_found("store-AckBeforeWrite");
}

#[test]
fn rotten_bytes_that_nobody_checks_are_found() {
    assert_found("store-SkipReadChecksum");
}

#[test]
fn a_former_member_that_leaves_too_early_is_found() {
    assert_found("group-LeaveUnchecked");
}

#[test]
fn a_former_member_that_deletes_instead_of_leaving_is_found() {
    assert_found("group-LeaveWithTombstones");
}

#[test]
fn a_member_filled_in_part_is_found() {
    assert_found("group-FillInPart");
}

#[test]
fn a_fill_that_asks_no_former_member_is_found() {
    assert_found("group-ForgetFormer");
}

#[test]
fn a_plan_that_forgets_who_leaves_is_found() {
    assert_found("plan-forgets-former");
}

#[test]
fn a_detach_that_ends_no_session_is_found() {
    assert_found("node-KeepDetached");
}

#[test]
fn an_older_session_that_goes_on_is_found() {
    assert_found("node-KeepOlder");
}

#[test]
fn a_session_of_a_generation_that_is_over_is_found() {
    assert_found("node-AdmitAnyGeneration");
}

#[test]
fn a_session_that_was_ended_and_is_let_in_by_another_owner_is_found() {
    assert_found("node-ForgetProcess");
}

#[test]
fn a_release_that_works_in_a_cluster_that_it_does_not_know_is_found() {
    assert_found("node-IgnoreLevel");
}

#[test]
fn a_flush_that_failed_and_counts_is_found() {
    assert_found("store-IgnoreFlushError");
}

#[test]
fn a_pool_without_a_reserve_is_found() {
    assert_found("store-SkipReserve");
}

#[test]
fn a_clone_that_shares_a_page_for_writing_is_found() {
    assert_found("volume-SharePages");
}

#[test]
fn a_flush_that_asks_one_replica_is_found() {
    assert_found("volume-FlushFirstReplica");
}

#[test]
fn a_durable_write_acknowledged_before_its_flush_is_found() {
    assert_found("volume-AckBeforeFlush");
}

#[test]
fn writers_that_never_wait_are_found() {
    assert_found("volume-NeverThrottle");
}

#[test]
fn a_journal_that_an_opening_replays_without_a_bound_is_found() {
    assert_found("store-LateCheckpoint");
}

#[test]
fn a_put_whose_takers_do_not_know_who_lacks_it_is_found() {
    assert_found("group-ForgetMissing");
}

#[test]
fn a_replica_that_calls_more_flushed_than_was_asked_is_found() {
    assert_found("store-FlushedAsWritten");
}

#[test]
fn a_log_trimmed_above_every_root_is_found() {
    assert_found("volume-TrimBeforeCheckpoint");
}

#[test]
fn a_store_that_is_trusted_after_a_loss_of_power_is_found() {
    assert_found("store-TrustAfterPowerLoss");
}

#[test]
fn a_put_of_a_generation_that_is_over_is_found() {
    assert_found("store-AcceptStaleGeneration");
}

#[test]
fn a_volume_that_is_given_up_and_served_is_found() {
    assert_found("node-GiveUpServed");
}

#[test]
fn openings_without_a_bound_are_found() {
    assert_found("node-OpenAllAtOnce");
}

#[test]
fn attempts_that_nobody_counts_are_found() {
    assert_found("node-ForgetAttempts");
}

#[test]
fn suspects_that_are_accused_together_are_found() {
    assert_found("node-OpenSuspectsTogether");
}

#[test]
fn a_process_that_does_not_say_what_ended_it_is_found() {
    assert_found("node-ForgetLastWords");
}

#[test]
fn a_candidate_that_takes_part_is_found() {
    assert_found("node-AnnounceCandidate");
}

#[test]
fn copies_in_one_rack_are_found() {
    assert_found("plan-ignores-racks");
}

#[test]
fn a_reference_to_what_was_never_durable_is_found() {
    assert_found("volume-BelieveReferences");
}

#[test]
fn copies_of_a_log_in_one_rack_are_found() {
    assert_found("node-IgnoreLogDomains");
}

#[test]
fn a_volume_without_clients_that_overtakes_is_found() {
    assert_found("node-OpenInOrder");
}
