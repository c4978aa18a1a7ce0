#!/usr/bin/env bash
# Installs the programs of recipes that Debian does not have, from npm and PyPI, for the tests with real servers. They are
# in target/recipes: 330 MB of packages for Node.js and 140 MB for Python.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The last versions that Node.js 18 runs, which is Debian 12's.
npm=(maildev@2.2.1 vite@5.4.21 next@14.2.35 react@18.3.1 react-dom@18.3.1)
# Of the package's extra `server`, S3 needs only these.
pip=(moto==5.2.5 flask==3.1.3 flask-cors==6.0.5)

dir=${CARGO_TARGET_DIR:-target}/recipes
wanted="${npm[*]} ${pip[*]}"
if [[ $(cat "$dir/installed" 2>/dev/null) == "$wanted" ]]; then
    exit
fi
rm -rf "$dir"
mkdir -p "$dir"
printf '{}\n' >"$dir/package.json"
npm install --prefix "$dir" --silent --no-progress --no-audit --no-fund "${npm[@]}"
python3 -m venv "$dir/.venv"
"$dir/.venv/bin/pip" install --quiet --disable-pip-version-check "${pip[@]}"
printf '%s\n' "$wanted" >"$dir/installed"
du -sh "$dir"/node_modules "$dir/.venv"
