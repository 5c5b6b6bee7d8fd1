#!/usr/bin/env bash
# Makes .venv at the repository root, or does nothing if it is there and up to date.
#
# Command: scripts/environment.sh [--dev]
#   --dev: what tests, style, the site, notebooks and seqio's cache take, too.
# Requires: Linux on x86-64, Python 3.11 or 3.12 as python3, or named by PYTHON, and a
#   package index.
# Cost: a minute or two and 2.5 GB the first time, 2.9 GB with --dev, then none.
# A T5X installed into .venv over the embedded t5x is left there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { echo "environment: $*"; }
fail() { say "$*" >&2 && exit 1; }

if (($# > 1)) || [[ ${1:---dev} != --dev ]]; then
    fail "unknown arguments $*: only --dev is known"
fi
# TensorFlow for CPUs alone and tensorflow-text have no wheels of these versions elsewhere.
if [[ $(uname -sm) != "Linux x86_64" ]]; then
    fail "needs Linux on x86-64, and this is $(uname -sm)"
fi
exec 9<scripts/environment.sh
flock 9 # only one of two that start together installs

# What .venv holds: of which files, for whom, and where. Empty while it is being installed.
stamp=.venv/installed
line() { sed -n "$1p" $stamp 2>/dev/null || true; }
packages=$(cat constraints*.txt setup.py embedded/pyproject.toml scripts/environment.sh | cksum)
place=$(pwd -P)
kind=${1:-$(line 2)} # what is there for --dev stays
kind=${kind:---train}
wanted=$(printf '%s\n' "$packages" "$kind" "$place")
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

# --no-deps, since the lists name everything: else t5 puts seqio-nightly and tfds-nightly
# over seqio and tensorflow-datasets, and tensorflow-text puts the full tensorflow beside
# tensorflow-cpu. Python compiles what it imports: less than pip would.
install() {
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
        --no-compile "$@" >.venv/install.log 2>&1 ||
        fail "pip failed ($(
            grep --max-count=1 ERROR .venv/install.log || tail -n 1 .venv/install.log
        )): see .venv/install.log, then run this again"
}

if [[ -e .venv && ! -e $stamp ]]; then
    fail ".venv was not made by this script, and stays: move it away, and run this again"
fi
# Neither can be mended in place.
if [[ -e $stamp && "$(line 3)" != "$place" ]] && ! has_t5x; then
    say "removing .venv: its install did not finish, or it was copied from elsewhere"
    find .venv -mindepth 1 -maxdepth 1 ! -name installed -exec rm -rf {} +
    rm -rf .venv # last the stamp, which says whose it is
fi
if [[ ! -x .venv/bin/python ]]; then
    python=${PYTHON:-python3}
    if ! version=$("$python" --version 2>/dev/null); then
        fail "needs Python 3.11 or 3.12, and $python does not run: set PYTHON to one"
    fi
    # editdistance, which t5 imports, has no wheels for later versions.
    if [[ ! $version =~ ^Python\ 3\.1[12]\. ]]; then
        fail "needs Python 3.11 or 3.12, and $python is $version: set PYTHON to one"
    fi
    say "making .venv with $version"
    mkdir -p .venv
    : >$stamp
    "$python" -m venv .venv
fi
: >$stamp

lists=(--requirement constraints.txt)
if [[ $kind == --dev ]]; then
    lists+=(--requirement constraints_dev.txt)
fi
say "installing packages, ${kind#--}: a minute or two"
install --constraint constraints.txt setuptools wheel # the build tools, pinned ones
install --no-build-isolation "${lists[@]}"
if has_t5x; then
    say "installing gbt_t5x, and keeping the T5X that is there"
    install --no-build-isolation --editable .
else
    say "installing gbt_t5x and the embedded t5x"
    install --no-build-isolation --editable embedded --editable .
fi
# Else every start would compile the thousands of modules that it imports.
if [[ -n ${PYTHONDONTWRITEBYTECODE:-} ]]; then
    say "compiling the packages, since PYTHONDONTWRITEBYTECODE is set"
    # Some have templates, which are no Python.
    .venv/bin/python -m compileall -qq -j 0 .venv/lib || true
fi
echo "$wanted" >$stamp
