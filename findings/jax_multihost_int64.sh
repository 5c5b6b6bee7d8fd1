#!/usr/bin/env bash
# JAX 0.10.2: what hosts tell each other in int64 and float64 arrives in 32 bits.
#
# multihost_utils.broadcast_one_to_all returns "a pytree matching in_tree where the leaves
# now all contain the data from the first host", and process_allgather what each has. On
# several hosts the values pass through arrays of JAX, which without jax_enable_x64 have 32
# bits: a number of bytes, a time or a hash loses what is above, without the warning that
# jnp.asarray gives. On one host both return what they are given, so that a program is right
# until it is distributed. assert_equal compares each host's number with what came through,
# and fails where all hosts have the same.
#
# Command: findings/jax_multihost_int64.sh
# Prints, and fails if it changes:
#   hosts   broadcast 2**40 + 5    gathered         broadcast 2**24 + 1.0   assert_equal
#   1       1099511627781          1099511627781    16777217.0              passes
#   2       5                      5 5              16777216.0              fails
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2 \
    numpy==2.4.6
cat >"$folder/hosts.py" <<'PYTHON'
import socket
import subprocess
import sys

WIDTHS = (8, 23, 17, 24, 0)


def show(*cells):
    print("".join(str(c).ljust(w) for c, w in zip(cells, WIDTHS)).rstrip(), flush=True)


def host(number, hosts, address):
    import jax
    from jax.experimental import multihost_utils
    import numpy as np

    if hosts > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(address, hosts, number)
    whole, real = np.int64(2**40 + 5), np.float64(2**24 + 1)
    sent = multihost_utils.broadcast_one_to_all(whole)
    gathered = multihost_utils.process_allgather(whole)
    of_real = multihost_utils.broadcast_one_to_all(real)
    try:
        multihost_utils.assert_equal(whole)
        equal = "passes"
    except AssertionError:
        equal = "fails"
    if number == 0:
        all_of = " ".join(str(x) for x in np.ravel(gathered))
        show(hosts, sent, all_of, float(of_real), equal)


if len(sys.argv) > 1:
    host(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
else:
    title = ("broadcast 2**40 + 5", "gathered", "broadcast 2**24 + 1.0", "assert_equal")
    show("hosts", *title)
    for hosts in (1, 2):
        with socket.socket() as s:
            s.bind(("localhost", 0))
            address = f"localhost:{s.getsockname()[1]}"
        command = [sys.executable, __file__]
        running = [
            subprocess.Popen([*command, str(i), str(hosts), address])
            for i in range(hosts)
        ]
        if any([process.wait(timeout=120) for process in running]):
            sys.exit("a host has failed")
PYTHON
seen=$(JAX_PLATFORMS=cpu "$folder/venv/bin/python" "$folder/hosts.py" 2>/dev/null |
    grep -v Gloo)
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
hosts   broadcast 2**40 + 5    gathered         broadcast 2**24 + 1.0   assert_equal
1       1099511627781          1099511627781    16777217.0              passes
2       5                      5 5              16777216.0              fails
EXPECTED
