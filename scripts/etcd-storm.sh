#!/usr/bin/env bash
# Runs what scripts/etcd-hosts.sh leaves out because it takes long: 800 clients on 40 hosts that start at once, a minute
# without a quorum, and a storm of 10 minutes on three hosts.
#
#     scripts/etcd-storm.sh [SECONDS]       of the storm
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export PROCREF_TEST_STORM_SECONDS=${1:-600}
RUST_TEST_THREADS=1 scripts/etcd-hosts.sh --ignored --nocapture
