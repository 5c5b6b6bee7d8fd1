# How the demos begin: each sources this, which ends it at arguments that it does not take.
#
# Provides: the repository as the current folder, .venv, and `python`.
for argument; do
    if [[ $argument != --gin.*=* ]]; then
        sed -n '/^# /,/^set /s/^# \{0,1\}//p' "$0"
        [[ $argument == --help ]] && exit
        echo "$(basename "$0"): unknown argument $argument" >&2
        exit 2
    fi
done
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/environment.sh
export GLIBC_TUNABLES=glibc.malloc.hugetlb=1 # fewer page faults: shorter steps
compiled=$(mktemp -d)
trap 'rm -rf "$compiled"' EXIT
# Programs that are alike compile once, as in gbt_t5x/studies/processes.py.
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$compiled}
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=${JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS:-0.2}
python=.venv/bin/python
