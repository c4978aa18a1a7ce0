#!/usr/bin/env bash
# Runs tests with `PROCREF_KERNEL=keeper`, and a storm that also kills keepers. Most tests are
# the same for both kernels. Those in `skipped` are about semaphore sets, or about the forked process of a supervisor.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export PROCREF_KERNEL=keeper

skipped=(
    # These remove or write to a semaphore set.
    g3_command_is_stopped_when_its_set_is_removed
    # A supervisor is a thread of the keeper: the keeper does not exit with it, and has descriptors and memory of its own.
    g3_callbacks_after_a_dead_command_get_their_own_supervisor
    g3_command_inherits_nothing_from_its_starter
    g3_dead_command_is_replaced_and_status_shows_its_exit
    g3_kept_orphan_stays_without_a_supervisor
    g3_supervisor_inherits_nothing_from_its_starter
    g3_supervisor_keeps_no_memory_that_its_starter_rewrites
)

skip=()
for test in "${skipped[@]}"; do
    skip+=(--skip "$test")
done

tests=(
    g1_one_instance g3_command g3_supervisor g6_cleanup
    commands run hold stop_restart several
)
cargo test --workspace "${tests[@]/#/--test=}" -- "${skip[@]}"
cargo run --bin storm -- --processes 16 --seconds 20 --kill-rate 100 --doomed 50 --kill-keepers 40
