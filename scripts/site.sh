#!/usr/bin/env bash
# Makes the documentation site, with an API reference and a search, in build/site.
#
# Command: scripts/site.sh [FOLDER]
# Cost: half a minute. Needs no network once .venv is there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [[ $# -gt 1 || ${1:-} == -* ]]; then
    sed -n '/^# /,/^set /s/^# \{0,1\}//p' "$0"
    [[ $* == --help ]] && exit
    echo "site.sh: unknown arguments $*" >&2
    exit 2
fi

scripts/environment.sh --dev
export JAX_PLATFORMS=cpu TF_CPP_MIN_LOG_LEVEL=3
folder=${1:-build/site}
exec 8<scripts/site.sh
flock 8 # two that start together would write the same docs/api
rm -rf docs/api # modules may have gone
.venv/bin/python -m sphinx --quiet --fail-on-warning --builder html \
    --doctree-dir build/doctrees docs "$folder"
echo "open $folder/index.html"
