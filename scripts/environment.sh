#!/usr/bin/env bash
# Makes .venv at the repository root, or does nothing if it is there and up to date.
#
# Command: scripts/environment.sh
# Requires: Python 3.11 or 3.12 as python3, or named by PYTHON, and a package index.
# Cost: a minute or two and 3 GB the first time, then none.
# A T5X installed into .venv over the embedded t5x is left there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { echo "environment: $*"; }

exec 9<scripts/environment.sh
flock 9 # only one of two that start together installs

# What .venv holds, and where it was made. Empty while an install is under way.
stamp=.venv/installed
wanted="$(cat constraints.txt setup.py embedded/pyproject.toml scripts/environment.sh | cksum)
$(pwd -P)"
if [[ -x .venv/bin/python && "$(cat $stamp 2>/dev/null)" == "$wanted" ]]; then
    exit 0
fi

has_t5x() {
    .venv/bin/python - 2>/dev/null <<'EOF'
import importlib.metadata as metadata
import sys

sys.exit(metadata.version("t5x") in (None, "0.0.0+embedded"))
EOF
}

install() {
    .venv/bin/python -m pip install -qq --disable-pip-version-check --no-deps "$@"
}

# Neither can be mended in place. A .venv without stamp is the user's own, and is kept.
if [[ -e $stamp && "$(tail -n 1 $stamp)" != "$(pwd -P)" ]] && ! has_t5x; then
    say "removing .venv: its install did not finish, or it was copied from elsewhere"
    rm -rf .venv
fi
if [[ ! -x .venv/bin/python ]]; then
    python=${PYTHON:-python3}
    if ! version=$("$python" --version 2>/dev/null); then
        say "needs Python 3.11 or 3.12, and $python does not run: set PYTHON to one" >&2
        exit 1
    fi
    # editdistance, which t5 imports, has no wheels for later versions.
    if [[ ! $version =~ ^Python\ 3\.1[12]\. ]]; then
        say "needs Python 3.11 or 3.12, and $python is $version: set PYTHON to one" >&2
        exit 1
    fi
    say "making .venv with $version"
    mkdir -p .venv
    : >$stamp
    "$python" -m venv .venv
fi
: >$stamp

# --no-deps, since constraints.txt names everything: else t5 puts seqio-nightly and
# tfds-nightly over seqio and tensorflow-datasets, and tensorflow-text puts the full
# tensorflow beside tensorflow-cpu. The build tools come first, to be the pinned ones.
say "installing the packages of constraints.txt (3 GB)"
install --constraint constraints.txt setuptools wheel
install --no-build-isolation --requirement constraints.txt
if has_t5x; then
    say "installing gbt_t5x, and keeping the T5X that is there"
    install --no-build-isolation --editable .
else
    say "installing gbt_t5x and the embedded t5x"
    install --no-build-isolation --editable embedded --editable .
fi
echo "$wanted" >$stamp
