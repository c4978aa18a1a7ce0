#!/usr/bin/env bash
# Runs tests with `PROCREF_KERNEL=keeper`, and a storm that also kills keepers: `scripts/keeper.sh [--all]`.
#
# Without --all, the script runs some of the test files, for .ci/run. With --all, it runs every test of the workspace
# except those in `skipped`. Most tests are the same for both kernels.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export PROCREF_KERNEL=keeper

skipped=(
    # These choose the kernel themselves, and the files run with both kernels in any case. The rest of the conformance
    # suite has a harness for keepers.
    kernel::conformance::native
    model::
    # These are about semaphore sets: their limits, and a program that creates, removes or changes one.
    doctor_reports_low_semaphore_limits_as_errors
    kernel_limit_on_semaphores_is_an_error_before_the_start
    kernel_limit_on_set_size_is_an_error_before_the_start
    kernel_limit_on_sets_is_an_error_before_the_start
    scene_reports_and_removes_a_leftover_set
    g6_refused_first_step_leaves_no_semaphore_set
    g7_blank_set_of_the_same_user_is_used
    g7_set_of_another_owner
    g7_set_that_other_users_may_access_is_refused
    g7_set_with
    # A keeper forgets an object in which no process has taken a step that lasts.
    g6_stop_claims_an_unclaimed_set_before_any_other_step
    # A supervisor is a thread of the keeper: the keeper does not exit with it, and has descriptors and memory of its own.
    g3_callbacks_after_a_dead_command_get_their_own_supervisor
    g3_command_inherits_nothing_from_its_starter
    g3_dead_command_is_replaced_and_status_shows_its_exit
    g3_kept_orphan_stays_without_a_supervisor
    g3_supervisor_inherits_nothing_from_its_starter
    g3_supervisor_keeps_no_memory_that_its_starter_rewrites
    g8_supervisor_keeps_no_memory_of_foreign_libraries
    # It inherits a filter that kills it, so there is no keeper.
    g3_supervisor_killed_after_fork_is_reported_with_its_signal
    # These are known limits of a keeper: see docs/platforms.md.
    g8_host_that_closes_descriptors_starts_services
    g8_host_with_large_thread_local_data_starts_services
    # These suspend a supervisor, and look at its service meanwhile. A suspended keeper answers no client, and the first
    # client that asks continues it: see `suspended_keeper_is_continued_by_a_client_that_waits`.
    g1_leftovers_of_a_failed_start_end_before_the_next_start
    g1_supervisor_shares_the_lock_only_with_its_own_starter
    g4_lock_is_free_for_all_clients_when_acquire_returns
    g4_next_client_resumes_the_supervisor_of_a_dead_service
    g4_service_death_right_before_its_supervisor_sleeps_is_seen
    g6_last_client_cleans_up_if_a_supervisor_steps_down
    g6_supervisor_that_steps_down_cleans_up_after_clients
    log_is_rotated_at_a_start_and_at_a_join
)
skip=("${skipped[@]/#/--skip=}")

case ${1-} in
--all)
    cargo test --workspace --no-fail-fast --lib --bins --tests -- "${skip[@]}"
    ;;
'')
    tests=(
        g1_one_instance g2_dead_clients g2_exec g3_command g3_last_release g3_supervisor g4_acquire g5_signals g6_cleanup
        g8_fork g9_callback_failures removed_sets
        commands demo doctor run hold stop_restart several watch_client
    )
    cargo test --workspace "${tests[@]/#/--test=}" -- "${skip[@]}"
    ;;
*)
    printf 'keeper.sh: unknown option %s\n' "$1" >&2
    exit 2
    ;;
esac
# The tests above have built the program.
scripts/keeper-risks.py target/debug/procref
cargo run --bin storm -- --processes 16 --seconds 20 --kill-rate 100 --doomed 50 --kill-keepers 40
