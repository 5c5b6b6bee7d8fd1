# How the demos begin: each sources this, which ends it at arguments that it does not take.
#
# Provides: the repository as the current folder, .venv, `python`, and `train`.
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

# train FOLDER ARGUMENT...: t5x.train in a new FOLDER; what is there is removed, once that went
# well, and put back, if it did not.
train() {
    local folder=$1 before="$1.before"
    if [[ -e $before ]]; then
        rm -rf "${folder:?}" # of a start that was killed
    elif [[ -e $folder ]]; then
        mv "$folder" "$before"
    fi
    if ! $python -m t5x.train "${@:2}" --gin.MODEL_DIR="\"$folder\""; then
        if [[ -e $before ]]; then rm -rf "${folder:?}" && mv "$before" "$folder"; fi
        exit 1
    fi
    rm -rf "$before"
}
