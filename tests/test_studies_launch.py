"""Runs that are launched, by a program in place of T5X's, and once by T5X's."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from gbt_t5x.studies import launch, runs
import gin_runs

# Notes that it ran. FAIL has it fail, and WAIT wait for a signal, as T5X does at one.
TRAIN = """
import os, pathlib, signal, sys, time
arguments = dict(a.removeprefix("--gin.").split("=", 1) for a in sys.argv[1:])
model_dir = pathlib.Path(arguments["MODEL_DIR"].strip('"'))
with open(model_dir / "ran", "a") as f:
    f.write(" ".join(sys.argv[1:-1]) + "\\n")
compiled = os.environ["JAX_COMPILATION_CACHE_DIR"]
(model_dir / "compiled").write_text(compiled if os.path.isdir(compiled) else "none")
if "FAIL" in arguments:
    print("some lines", flush=True)
    what = "FAIL" if arguments["FAIL"] == "1" else arguments["FAIL"]
    sys.exit(f"error: set {what} to nothing")
if "DIVERGE" in arguments:
    print("some lines", flush=True)
    sys.exit(
        "FloatingPointError: the training loss is not finite before step 3\\n"
        "  In call to configurable 'train' (<function train at 0x7f5c>)"
    )
if "KILL" in arguments:
    os.kill(os.getpid(), signal.SIGKILL)
if "WAIT" in arguments and not os.path.exists("go_on"):
    def stop(*_):
        (model_dir / "saved").touch()
        sys.exit(143)
    signal.signal(signal.SIGTERM, stop)
    (model_dir / "waits").touch()
    time.sleep(60)
if "MEET" in arguments:
    (model_dir / "here").touch()
    (model_dir / "cores").write_text(str(sorted(os.sched_getaffinity(0))))
    for _ in range(600):
        if len(list(model_dir.parent.parent.glob("*/0/here"))) == 2:
            sys.exit(0)
        time.sleep(0.05)
    sys.exit("error: nobody came")
"""


LAUNCH = """
import sys
from gbt_t5x.studies import launch
for folder in sys.argv[1:]:
    launch.train([launch.Variant("a", []), launch.Variant("b", [])], folder)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder for runs, where `python -m t5x.train` is the program above."""
    (tmp_path / "t5x").mkdir()
    (tmp_path / "t5x" / "__init__.py").touch()
    (tmp_path / "t5x" / "train.py").write_text(TRAIN)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "study"


def ran(folder):
    """VARIANT/SEED -> the command lines that ran there."""
    return {
        "/".join(path.parts[-3:-1]): path.read_text().splitlines()
        for path in folder.glob("*/*/ran")
    }


def variants(*bindings):
    return [
        launch.Variant("a", ["x.gin", "y.gin"], ["N = 1", "M.n=2", *bindings]),
        launch.Variant("b", []),
    ]


def test_runs_of_a_process_share_what_is_compiled(folder, tmp_path, monkeypatch):
    def used(name, *folders):
        paths = [str(tmp_path / name / f) for f in folders]
        command = [sys.executable, "-c", LAUNCH, *paths]
        subprocess.run(command, check=True, capture_output=True)
        return {p.read_text() for p in (tmp_path / name).glob("*/*/*/compiled")}

    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    (of_first,) = used("first", "one", "two")
    (of_second,) = used("second", "one")
    assert of_first != of_second and "gbt_t5x_compiled_" in of_first
    assert not os.path.exists(of_first) and not os.path.exists(of_second)
    (tmp_path / "own").mkdir()
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "own"))
    assert used("third", "one") == {str(tmp_path / "own")}
    assert (tmp_path / "own").is_dir()


def test_every_variant_is_trained_from_every_seed(folder, capfd):
    trained = launch.train(variants(), folder, seeds=[3, 10])
    assert trained == {
        name: [folder / name / "3", folder / name / "10"] for name in ("a", "b")
    }
    of_a = "--gin_file=x.gin --gin_file=y.gin --gin.N=1 --gin.M.n=2"
    assert ran(folder) == {
        "a/3": [f"{of_a} --gin.RANDOM_SEED=3"],
        "a/10": [f"{of_a} --gin.RANDOM_SEED=10"],
        "b/3": ["--gin.RANDOM_SEED=3"],
        "b/10": ["--gin.RANDOM_SEED=10"],
    }
    err = capfd.readouterr().err
    assert f"a/3: started, its log is {folder}/a/3/log.txt" in err
    assert "[1/4 runs, about " in err and "[4/4 runs] b/10 in " in err


def test_what_is_done_is_not_repeated(folder, capfd):
    launch.train(variants(), folder)
    launch.train(variants(), folder, seeds=[0, 1])
    assert {name: len(lines) for name, lines in ran(folder).items()} == {
        **{"a/0": 1, "b/0": 1},
        **{"a/1": 1, "b/1": 1},
    }
    assert "[2/4 runs] b/0 was done before" in capfd.readouterr().err


def test_a_folder_of_another_command_is_an_error(folder):
    launch.train(variants(), folder)
    with pytest.raises(
        ValueError,
        match=r"study/a/0 was trained by another command: that one has nothing where "
        r"this one has --gin.K=5: ",
    ):
        launch.train([*variants("K = 5")[:1], launch.Variant("c", [])], folder)
    assert "c/0" not in ran(folder), "nothing is trained then"


def test_a_folder_that_was_not_launched_is_an_error(folder):
    (folder / "a" / "0").mkdir(parents=True)
    (folder / "a" / "0" / "checkpoint_5").touch()
    with pytest.raises(ValueError, match="study/a/0 has files, and no study.json"):
        launch.train(variants(), folder)


def test_a_failed_run_is_reported_and_tried_again(folder, capfd):
    failing = [launch.Variant("a", [], ["FAIL = 1"]), launch.Variant("b", [])]
    problem = "status 1, error: set FAIL to nothing"
    with pytest.raises(ValueError, match=f"1 of 2 runs failed.*: a/0: {problem}"):
        launch.train(failing, folder)
    assert "a/0 failed: status 1, error: set FAIL" in capfd.readouterr().err
    assert ran(folder).keys() == {"a/0", "b/0"}, "the others are trained"
    state = json.loads((folder / "a/0/study.json").read_text())
    assert (state["state"], state["status"]) == ("failed", 1)
    assert (folder / "a/0/log.txt").read_text().startswith("some lines\n")
    with pytest.raises(ValueError, match="1 of 2 runs failed"):
        launch.train(failing, folder)
    assert {name: len(lines) for name, lines in ran(folder).items()} == {
        "a/0": 2,
        "b/0": 1,
    }


@pytest.mark.parametrize(
    "diverged",
    [
        "the training loss is not finite before step 5",
        "the train state of step 5 is not finite, and is not saved",
    ],
)
def test_failures_may_be_recorded(diverged, folder, capfd):
    """Of them, one that has diverged is not tried again."""
    failing = [
        launch.Variant("a", [], ["FAIL = 1"]),
        launch.Variant("b", []),
        launch.Variant("c", [], [f"FAIL = {diverged}"]),
    ]
    for runs_of_a in (1, 2):
        failures = {}
        trained = launch.train(failing, folder, failures=failures)
        assert trained == {name: [folder / name / "0"] for name in "abc"}
        assert failures.keys() == {folder / "a/0", folder / "c/0"}
        assert f"status 1, error: set {diverged} to nothing" in failures[folder / "c/0"]
        assert failures[folder / "c/0"].endswith("(c/0/log.txt)")  # of no machine
        assert {name: len(lines) for name, lines in ran(folder).items()} == {
            "a/0": runs_of_a,
            "b/0": 1,
            "c/0": 1,
        }
    assert f"c/0 failed before: status 1, error: set {diverged}" in capfd.readouterr().err
    with pytest.raises(ValueError, match="2 of 3 runs failed.*: a/0: .*; c/0: "):
        launch.train(failing, folder)
    assert len(ran(folder)["c/0"]) == 2


@pytest.mark.parametrize("failures", [None, {}])
def test_a_mistake_of_all_ends_a_study(failures, folder):
    alike = [launch.Variant(name, [], ["FAIL = 1"]) for name in "ab"]
    # c ends when it is stopped: d could only begin after it.
    alike += [launch.Variant("c", [], ["WAIT = 1"]), launch.Variant("d", [])]
    with pytest.raises(ValueError, match="two runs failed alike: b/0: status 1, er"):
        launch.train(alike, folder, failures=failures)
    found = ran(folder).keys()  # c may have begun when the end of b was seen
    assert {"a/0", "b/0"} <= found and "d/0" not in found


@pytest.mark.parametrize("second", ["FAIL = 2", "KILL = 1", "FAIL = 1"])
def test_faults_of_their_own_do_not(second, folder):
    """Nor the same one, where a run has ended before."""
    settings = ["FAIL = 1", second, "FAIL = 1"]
    others = [
        launch.Variant(name, [], [x]) for name, x in zip("abc", settings, strict=True)
    ]
    if second == "FAIL = 1":
        others.insert(0, launch.Variant("done", []))
        launch.train(others[:1], folder)
    failures = {}
    launch.train(others, folder, failures=failures)
    assert failures.keys() == {folder / f"{name}/0" for name in "abc"}


def test_a_run_that_is_killed_says_by_which_signal(folder):
    killed = [launch.Variant("a", [], ["KILL = 1"])]
    with pytest.raises(ValueError, match=r"a/0: signal 9 \(Killed\), no output "):
        launch.train(killed, folder)


def test_a_state_that_is_none_is_an_error(folder):
    for text, message in {"{": "is not whole", "[]": "says nothing of a run"}.items():
        (folder / "a" / "0").mkdir(parents=True, exist_ok=True)
        (folder / "a" / "0" / "study.json").write_text(text)
        with pytest.raises(ValueError, match=f"study/a/0/study.json {message}.*remove"):
            launch.train(variants(), folder)


def test_jobs_run_at_once(folder):
    """Each of two ends when the other has begun, and has half of the cores."""
    two = [launch.Variant(name, [], ["MEET = 1"]) for name in "ab"]
    launch.train(two, folder, jobs=2)
    cores = os.sched_getaffinity(0)
    shares = [set(json.loads((folder / name / "0/cores").read_text())) for name in "ab"]
    if len(cores) > 1:
        assert not shares[0] & shares[1]
    assert shares[0] | shares[1] == cores


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_stopped_study_stops_its_runs_and_goes_on(number, folder, tmp_path):
    (tmp_path / "study.py").write_text(
        "from gbt_t5x.studies import commands, launch\n"
        "two = [launch.Variant('a', [], ['WAIT = 1']), launch.Variant('b', [])]\n"
        f"commands.run(launch.train, two, {str(folder)!r})\n"
    )
    env = os.environ | {"PYTHONPATH": os.fspath(gin_runs.ROOT)}
    command = [sys.executable, "study.py"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env)
    deadline = time.monotonic() + 60
    while not (folder / "a/0/waits").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert (folder / "a/0/saved").exists()
    assert "Traceback" not in err
    assert list(ran(folder)) == ["a/0"], "no other run was begun"
    (tmp_path / "go_on").touch()
    assert subprocess.run(command, env=env).returncode == 0
    assert {name: len(lines) for name, lines in ran(folder).items()} == {
        "a/0": 2,
        "b/0": 1,
    }


def test_one_command_works_in_a_folder(folder, tmp_path):
    """Also while a run lives on whose command was killed."""
    (tmp_path / "study.py").write_text(
        "from gbt_t5x.studies import launch\n"
        f"launch.train([launch.Variant('a', [], ['WAIT = 1'])], {str(folder)!r})\n"
    )
    env = os.environ | {"PYTHONPATH": os.fspath(gin_runs.ROOT)}
    process = subprocess.Popen([sys.executable, "study.py"], env=env)
    deadline = time.monotonic() + 60
    while not (folder / "a/0/waits").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    waits = [launch.Variant("a", [], ["WAIT = 1"])]
    for _ in range(2):
        failures = {}
        with pytest.raises(ValueError, match=f"another command works in {folder}, or a "):
            launch.train(waits, folder, failures=failures)
        assert not failures
        process.kill()
        process.wait()
    assert json.loads((folder / "a/0/study.json").read_text())["state"] == "started"
    (tmp_path / "go_on").touch()
    # Its group is the run's own: it has a session of its own.
    for child in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # another process has ended meanwhile
            if str(folder / "a/0").encode() in child.read_bytes():
                os.kill(int(child.parent.name), signal.SIGTERM)
    while True:
        try:
            launch.train(waits, folder)
            break
        except ValueError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert len(ran(folder)["a/0"]) == 2


def test_what_an_earlier_try_printed_is_not_what_went_wrong(folder):
    """Else a run that was killed would count as diverged, and not be tried again."""
    (folder / "a" / "0").mkdir(parents=True)
    killed = launch.Variant("a", [], ["KILL = 1"])
    state = {"state": "started", "arguments": killed.arguments(0)}
    (folder / "a" / "0" / "study.json").write_text(json.dumps(state))
    (folder / "a" / "0" / "log.txt").write_text("error: the loss is not finite\n")
    failures = {}
    launch.train([killed], folder, failures=failures)
    assert failures[folder / "a/0"].startswith("signal 9 (Killed), no output ")


def test_an_error_that_jax_passes_on_ends_the_log(folder, tmp_path):
    (tmp_path / "t5x/train.py").write_text(
        "import jax\n"
        "@jax.jit\n"
        "def step(x):\n"
        "    raise TypeError('no such dtype')\n"
        "step(1)\n"
    )
    with pytest.raises(ValueError, match=r"status 1, TypeError: no such dtype \("):
        launch.train([launch.Variant("a", [])], folder)


def test_a_divergence_is_known_by_what_is_said_of_it(folder):
    """On T5X gin says behind it where it was."""
    failures = {}
    diverges = launch.Variant("a", [], ["DIVERGE = 1"])
    launch.train([diverges], folder, failures=failures)
    problem = failures[folder / "a/0"]
    assert "the training loss is not finite before step 3 (" in problem
    assert launch.is_divergence(problem)
    refused = "the derivative by learning_rate is not finite where a gradient is 0"
    assert not launch.is_divergence(
        f"status 1, ValueError: cannot learn alpha: {refused}"
    )


def test_a_run_of_other_contents_of_gin_files_is_an_error(folder, tmp_path):
    gin_file, included = tmp_path / "a.gin", tmp_path / "b.gin"
    gin_file.write_text("include 'b.gin'\nA = 1\n")
    included.write_text("B = 1\n")
    variant = [launch.Variant("a", ["a.gin"])]

    def again():
        launch.macros.digest.cache_clear()
        launch.train(variant, folder)

    again()
    included.write_text("# One of a kind.\nB  =  1\n")
    again()
    included.write_text("B = 2\n")
    with pytest.raises(
        ValueError, match=f"{folder}/a/0 was trained when a.gin, or what "
    ):
        again()
    state = json.loads((folder / "a/0/study.json").read_text())
    del state["gin"]  # as of files that were not found
    (folder / "a/0/study.json").write_text(json.dumps(state))
    again()
    assert len(ran(folder)["a/0"]) == 1


@pytest.mark.parametrize("name", ["RANDOM_SEED", "MODEL_DIR"])
def test_what_a_study_sets_is_no_binding(name, folder):
    with pytest.raises(
        ValueError, match=f"{name} is what the folder and the seeds of a s"
    ):
        launch.train([launch.Variant("a", [], [f"{name} = 7"])], folder)


@pytest.mark.parametrize("settings", [{"jobs": 0}, {"seeds": []}])
def test_impossible_studies_are_errors(settings, folder):
    with pytest.raises(ValueError, match="there must be at least one"):
        launch.train(variants(), folder, **settings)
    with pytest.raises(ValueError, match="names must be distinct"):
        launch.train([*variants(), *variants()], folder)
    with pytest.raises(ValueError, match="binding 'N' is not NAME = VALUE"):
        launch.train([launch.Variant("a", [], ["N"])], folder)


def test_t5x_trains_a_variant(tmp_path):
    variant = launch.Variant(
        "baseline",
        ["gbt_t5x/gin/quickstart_baseline.gin"],
        gin_runs.TINY,
    )
    trained = launch.train([variant], tmp_path, seeds=[7])
    (run,) = runs.read_seeds(tmp_path / "baseline")
    assert trained == {"baseline": [run.folder]}
    assert list(run.loss) == [2]
    assert run.settings["RANDOM_SEED"] == "7"
    assert pathlib.Path(run.settings["MODEL_DIR"].strip("'")) == tmp_path / "baseline/7"


def test_the_newest_checkpoint_of_every_run_is_evaluated(folder, capfd):
    program = TRAIN.replace('"MODEL_DIR"', '"EVAL_OUTPUT_DIR"')
    (folder.parent / "t5x" / "eval.py").write_text(program)
    trained = launch.train([launch.Variant("a", [])], folder, seeds=[3, 10])["a"]
    with pytest.raises(ValueError, match="a/3 has no checkpoint to evaluate"):
        launch.evaluate(trained, ["e.gin"])
    for model_dir in trained:
        for step in (90, 1000, "2000.orbax-checkpoint-tmp"):
            (model_dir / f"checkpoint_{step}").mkdir()
    for _ in range(2):  # what is done is not repeated
        assert launch.evaluate(trained, ["e.gin"], ["N = 1"]) == [
            model_dir / "test" for model_dir in trained
        ]
    for model_dir in trained:
        of_run = f'--gin.CHECKPOINT_PATH="{model_dir}/checkpoint_1000"'
        (line,) = (model_dir / "test/ran").read_text().splitlines()
        assert line == f"--gin_file=e.gin --gin.N=1 {of_run}"
    assert "[2/2 runs] a/10/test in " in capfd.readouterr().err
    assert launch.seconds(trained[0] / "test") < 60
