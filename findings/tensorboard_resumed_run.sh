#!/usr/bin/env bash
# TensorBoard 2.21.0: its two readers show one resumed run otherwise, and neither by its restart.
#
# A run wrote steps 10 to 100 and was stopped; it went on from its checkpoint of step 50
# and stopped at 80. TensorBoard reads the folder's two files with a data server where its
# package is installed (--load_fast=auto), and by itself elsewhere. A tag whose step goes
# back loses all later points in the first, those of 90 and 100 too, which nothing has
# written again; the second keeps both runs as one line that goes back. SessionLog.START
# events, which mark a restart, are nothing to the first. To the second they take away every
# tag's later points, but only if the stopped run began with one too: its first START is no
# restart, whatever was read before it. --purge_orphaned_data is true throughout.
#
# Command: findings/tensorboard_resumed_run.sh
# Prints, and fails if it changes: for each reader and each way to write, the last steps
# shown, from 50 on, with the run of each: 1 was stopped, 2 went on.
#   no START, data server: loss 50:1 60:2 70:2 80:2 | accuracy 50:1 100:1
#   no START, by itself: loss 50:1 60:1 70:1 80:1 90:1 100:1 60:2 70:2 80:2 | accuracy 50:1 100:1
#   START of 2, data server: loss 50:1 60:2 70:2 80:2 | accuracy 50:1 100:1
#   START of 2, by itself: loss 50:1 60:1 70:1 80:1 90:1 100:1 60:2 70:2 80:2 | accuracy 50:1 100:1
#   START of 1 and 2, data server: loss 50:1 60:2 70:2 80:2 | accuracy 50:1 100:1
#   START of 1 and 2, by itself: loss 50:1 60:2 70:2 80:2 | accuracy 50:1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -qq --disable-pip-version-check tensorboard==2.21.0 \
    tensorboard-data-server==0.7.2 numpy==2.4.6 protobuf==7.36.2 setuptools==80.9.0
cat >"$folder/resumed.py" <<'PYTHON'
import json
import pathlib
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request

from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer import event_file_writer

LOGS = pathlib.Path(sys.argv[1]) / "logs"
WAYS = {"no START": (), "START of 2": (2,), "START of 1 and 2": (1, 2)}


def write(way, run, first, last):
    """Steps `first` to `last`, whose values are the number of the run."""
    writer = event_file_writer.EventFileWriter(str(LOGS / way), filename_suffix=f".{run}")
    if run in WAYS[way]:
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        writer.add_event(event_pb2.Event(step=first, session_log=start))
    for step in range(first, last + 1, 10):
        tags = ("loss", "accuracy") if step % 50 == 0 else ("loss",)
        values = [summary_pb2.Summary.Value(tag=tag, simple_value=run) for tag in tags]
        summary = summary_pb2.Summary(value=values)
        writer.add_event(event_pb2.Event(step=step, wall_time=run, summary=summary))
    writer.close()


def get(port, run, tag):
    scalars = f"plugin/scalars/scalars?run={urllib.parse.quote(run)}&tag={tag}"
    with urllib.request.urlopen(f"http://localhost:{port}/data/{scalars}") as page:
        return [(step, value) for _, step, value in json.load(page)]


def line(tag, values):
    return " ".join([tag, *(f"{step}:{value:.0f}" for step, value in values if step > 40)])


def wait(port, run):
    """Until both files are read, which end with step 80 of the second run."""
    for _ in range(600):
        try:
            if get(port, run, "loss")[-1] == (80, 2):
                return
        except OSError:
            pass  # it does not answer yet, or has read nothing
        time.sleep(0.2)
    raise TimeoutError(run)


def shown(reader, load_fast):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = ["tensorboard.main", "--logdir", LOGS, "--port", str(port), load_fast]
    with subprocess.Popen([sys.executable, "-m", *command]) as server:
        try:
            for way in WAYS:
                wait(port, way)
                tags = {tag: get(port, way, tag) for tag in ("loss", "accuracy")}
                lines[f"{way}, {reader}"] = " | ".join(map(line, tags, tags.values()))
        finally:
            server.terminate()


for run, first, last in ((1, 10, 100), (2, 60, 80)):
    for way in WAYS:
        write(way, run, first, last)
    time.sleep(1.1)  # a file's name has the second
lines = {}
shown("data server", "--load_fast=true")
shown("by itself", "--load_fast=false")
for name in sorted(lines, key=lambda name: list(WAYS).index(name.split(",")[0])):
    print(f"{name}: {lines[name]}")
PYTHON
seen=$(no_proxy=localhost "$folder/venv/bin/python" "$folder/resumed.py" "$folder" \
    2>"$folder/log") || {
    tail -5 "$folder/log"
    exit 1
}
echo "$seen"
diff <(echo "$seen") - <<'EXPECTED'
no START, data server: loss 50:1 60:2 70:2 80:2 | accuracy 50:1 100:1
no START, by itself: loss 50:1 60:1 70:1 80:1 90:1 100:1 60:2 70:2 80:2 | accuracy 50:1 100:1
START of 2, data server: loss 50:1 60:2 70:2 80:2 | accuracy 50:1 100:1
START of 2, by itself: loss 50:1 60:1 70:1 80:1 90:1 100:1 60:2 70:2 80:2 | accuracy 50:1 100:1
START of 1 and 2, data server: loss 50:1 60:2 70:2 80:2 | accuracy 50:1 100:1
START of 1 and 2, by itself: loss 50:1 60:2 70:2 80:2 | accuracy 50:1
EXPECTED
