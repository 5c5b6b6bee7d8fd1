#!/usr/bin/env bash
# Pins what setup.py and embedded/pyproject.toml ask for, and what those packages take: in
# constraints.txt what training takes, in constraints_dev.txt what only the dev extra does.
# Each is the newest release for Python 3.11 and, where that is another one, for 3.12.
# pyproject.toml says what other packages ask for and is left out.
#
# Command: scripts/pin.sh [options of uv pip compile]
#   none: pins that still hold stay.
#   --upgrade: takes the newest release of everything.
#   --upgrade-package NAME: takes that of one package.
# Cost: half a minute, and a package index.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder/uv" uv==0.13.9

# Arguments: the list that is written, and options of uv. Each line of it has the markers
# of pyproject.toml's environments, too, which go.
pin() {
    "$folder/uv/bin/uv" pip compile --quiet --universal --python-version 3.11 \
        --no-header --no-annotate --no-emit-package t5x --output-file "$@" \
        setup.py - <<<./embedded
    sed --regexp-extended --in-place "$1" --expression \
        "s/ (and|;) (python_full_version < '3.13' and )?implementation_name .*//"
}
cp constraints.txt "$folder/train"
cat constraints.txt constraints_dev.txt >"$folder/dev"
pin "$folder/train" "$@"
pin "$folder/dev" --constraint "$folder/train" --extra dev "$@"

{
    echo "# What training takes, the transitive packages too. Made by scripts/pin.sh."
    cat "$folder/train"
} >constraints.txt
{
    echo "# What the dev extra takes beside constraints.txt. Made by scripts/pin.sh."
    grep --invert-match --line-regexp --fixed-strings --file "$folder/train" "$folder/dev"
} >constraints_dev.txt
