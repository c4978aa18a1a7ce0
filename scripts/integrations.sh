#!/usr/bin/env bash
# Checks the files for editors, GitHub Actions and GitLab CI: the linters come from PyPI, and the commands in the files run
# with the program in target/debug.
#
#     scripts/integrations.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

[[ -x target/debug/procref ]] || {
    printf '%s: target/debug/procref does not exist: run `cargo build --bin procref`\n' "${0##*/}" >&2
    exit 1
}
venv=target/integrations
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
PIP_DISABLE_PIP_VERSION_CHECK=1 "$venv/bin/pip" install --quiet yamllint==1.38.0 check-jsonschema==0.39.0

"$venv/bin/yamllint" --strict --config-data '{
    extends: default,
    rules: {
        line-length: { max: 150 },
        document-start: disable,
        truthy: { check-keys: false },
        comments: { min-spaces-from-content: 1 }}
    }' action.yml .github integrations
"$venv/bin/check-jsonschema" --builtin-schema vendor.github-actions action.yml
"$venv/bin/check-jsonschema" --builtin-schema vendor.github-workflows .github/workflows/*.yml
"$venv/bin/check-jsonschema" --builtin-schema vendor.gitlab-ci --data-transform gitlab-ci integrations/gitlab/*.yml
"$venv/bin/python" scripts/check-integrations.py
