"""Processes that are killed, stopped and asked to leave: the run goes on and ends with equal bits.

Takes about half an hour on two cores: `make test-system`. The figures go to a file of
$NEGFLAX_FIGURES_DIR, if that is set.
"""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from process_group import HEARTBEAT, START, Group, finished, same_bits, train_arguments

from negflax.train.writers import read_metrics

pytestmark = pytest.mark.system

SLOWER = {"train__steps": 60, "train__eval_every": 20, "train__checkpoint_every": 10}
LOST = 134  # JAX's own exit where another process is gone
SAVED = 42
BATCHES, KILLS = 4, 5  # of one run each


def write_figures(**figures):
    print(figures)
    if folder := os.environ.get("NEGFLAX_FIGURES_DIR"):
        path = Path(folder) / "processes.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(known | figures, indent=1) + "\n")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """(folder of a run of two processes, seconds that it took)."""
    folder = tmp_path_factory.mktemp("undisturbed")
    began = time.monotonic()
    finished(folder / "logs", *arguments_of(folder / "run"))
    return folder / "run", time.monotonic() - began


def arguments_of(workdir):
    return [*train_arguments(workdir, **SLOWER), "--notest"]


def start(tmp_path, name="logs", count=2, **options):
    arguments = arguments_of(tmp_path / "run")
    return Group(tmp_path / name, count, "train", *arguments, **options)


def go_on(tmp_path, undisturbed, **options):
    text = finished(tmp_path / "again", *arguments_of(tmp_path / "run"), **options)
    assert same_bits(tmp_path / "run", undisturbed[0])
    lines = [(run / "metrics.jsonl").read_text() for run in (tmp_path / "run", undisturbed[0])]
    assert lines[0] == lines[1]
    return text


@pytest.mark.parametrize("victim", [1, 0], ids=["worker", "coordinator"])
def test_one_is_killed(tmp_path, undisturbed, victim):
    group = start(tmp_path)
    group.until("step 30/60")
    group.processes[victim].kill()
    began = time.monotonic()
    codes = group.wait(20 * HEARTBEAT)
    assert codes[victim] == -signal.SIGKILL
    assert codes[1 - victim] in (LOST, -signal.SIGABRT), group.text(1 - victim)
    assert time.monotonic() - began < 4 * HEARTBEAT
    assert "resuming from step" in go_on(tmp_path, undisturbed)


@pytest.mark.parametrize(
    ("asked", "number"), [(0, signal.SIGTERM), (1, signal.SIGINT), (1, signal.SIGHUP)]
)
def test_one_is_asked_to_leave(tmp_path, undisturbed, asked, number):
    group = start(tmp_path)
    group.until("step 30/60")
    group.processes[asked].send_signal(number)
    assert group.wait(240) == [SAVED, SAVED]
    assert "preempted: saved step " in group.text()
    assert "resuming from step" in go_on(tmp_path, undisturbed)


def test_all_are_asked_while_data_is_prepared(tmp_path, undisturbed):
    group = start(tmp_path)
    group.until("building event sequences")
    for process in group.processes:
        process.send_signal(signal.SIGTERM)
    assert group.wait(240) == [SAVED, SAVED]
    go_on(tmp_path, undisturbed)


def test_one_hangs(tmp_path, undisturbed):
    group = start(tmp_path)
    group.until("step 30/60")
    group.processes[1].send_signal(signal.SIGSTOP)
    began = time.monotonic()
    assert group.processes[0].wait(20 * HEARTBEAT) in (LOST, -signal.SIGABRT)
    assert time.monotonic() - began < 4 * HEARTBEAT
    group.kill()
    go_on(tmp_path, undisturbed)


def test_it_goes_on_as_one_process(tmp_path, undisturbed):
    group = start(tmp_path)
    group.until("step 30/60")
    group.processes[1].terminate()
    assert group.wait(240) == [SAVED, SAVED]
    go_on(tmp_path, undisturbed, count=1, devices=2)


def test_four_processes(tmp_path):
    """Their sums are added in the same order each time."""
    finished(tmp_path / "logs4", *arguments_of(tmp_path / "whole"), count=4)
    group = start(tmp_path, count=4)
    group.until("step 30/60")
    group.processes[-1].terminate()
    assert group.wait(240) == [SAVED] * 4
    go_on(tmp_path, (tmp_path / "whole",), count=4)


@pytest.mark.parametrize("count", [1, 4])
def test_it_goes_on_with_other_devices(tmp_path, undisturbed, count):
    """Another number of devices adds in another order: parameters are near, not equal."""
    group = start(tmp_path)
    group.until("step 30/60")
    group.processes[1].terminate()
    assert group.wait(240) == [SAVED, SAVED]
    finished(tmp_path / "again", *arguments_of(tmp_path / "run"), count=count)
    losses = [
        [line["loss"] for line in read_metrics(run) if "loss" in line]
        for run in (tmp_path / "run", undisturbed[0])
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def test_evaluation_and_lists(tmp_path, undisturbed):
    """Two processes give what one does, on devices of another number too."""
    workdir = undisturbed[0]
    found = {}
    for count in (1, 2):
        out = tmp_path / f"{count}.json"
        arguments = (f"--workdir={workdir}", f"--html={tmp_path}/page.html", f"--json={out}")
        group = Group(tmp_path / f"evaluate{count}", count, "evaluate", *arguments)
        assert group.wait() == [0] * count, group.text()
        lists = tmp_path / f"{count}.csv"
        events = f"--events={workdir}/data/events.parquet"
        group = Group(
            tmp_path / f"lists{count}", count, "recommend", arguments[0], events, f"--out={lists}"
        )
        assert group.wait() == [0] * count, group.text()
        found[count] = json.loads(out.read_text()), lists.read_text().splitlines()
    (one, lists_1), (two, lists_2) = found[1], found[2]
    assert one.keys() == two.keys()
    differ = {k for k in one if isinstance(one[k], float) and not np.isclose(one[k], two[k], 1e-3)}
    assert not differ
    assert [line.split(",")[:3] for line in lists_1] == [line.split(",")[:3] for line in lists_2]


def test_following(tmp_path, undisturbed):
    followed = {}
    for count in (1, 2):
        out = tmp_path / f"out{count}"
        arguments = (f"--workdir={undisturbed[0]}", f"--out={out}", "--follow")
        group = Group(tmp_path / f"follow{count}", count, "evaluate", *arguments)
        assert group.wait() == [0] * count, group.text()
        followed[count] = json.loads((out / "best.json").read_text())
        assert len(list((out / "evaluations").iterdir())) >= 2
    assert followed[1]["step"] == followed[2]["step"]


def test_disks_of_their_own(tmp_path):
    """Each process makes a cache that it does not find; the run's folder is shared."""
    seen = tmp_path / "seen"
    settings = train_arguments(tmp_path / "run", data__cache_dir=seen)
    finished(tmp_path / "logs", *settings)
    assert len(list(seen.glob("sequences-*"))) == 1


def test_a_user_error_ends_all_of_them(tmp_path):
    arguments = train_arguments(tmp_path / "run", batch__rows=3)
    group = Group(tmp_path / "logs", 2, "train", *arguments)
    assert group.wait(240) == [1, 1]
    assert "ConfigError: config.batch.rows = 3 does not divide" in group.text()
    assert "Traceback" not in group.text()


@pytest.fixture(scope="module")
def kills():
    """[tried, survived], over all batches."""
    found = [0, 0]
    yield found
    write_figures(two_process_kills_tried=found[0], two_process_kills_survived=found[1])


@pytest.mark.parametrize("seed", range(BATCHES))
def test_random_kills(tmp_path, undisturbed, kills, seed):
    """Kills of one of two processes at random moments, start-up and compilation included.

    A run that ends with the undisturbed one's bits has survived each of its kills; one that ended
    before it had them all begins anew.
    """
    random, left = np.random.default_rng(seed), KILLS
    while left:
        place, here = tmp_path / f"run{left}", 0
        while True:
            group = start(place, f"logs{left}", compiled=tmp_path / "compiled")
            if left and _killed(group, random, undisturbed[1]):
                left, here, kills[0] = left - 1, here + 1, kills[0] + 1
                group.wait(START + 20 * HEARTBEAT)
                continue
            codes = group.wait()
            if codes == [0, 0]:
                break
            # A busy machine starves heartbeats: that is tried again, as a scheduler would.
            assert set(codes) <= {LOST, -signal.SIGABRT}, group.text()
        assert same_bits(place / "run", undisturbed[0])
        kills[1] += here


def _killed(group, random, seconds):
    """Kills one of them at a moment of the run, unless it has ended by then."""
    victim = group.processes[random.integers(2)]
    until = time.monotonic() + random.uniform(0, seconds)
    while time.monotonic() < until and victim.poll() is None:
        time.sleep(0.01)
    if victim.poll() is not None:
        return False
    victim.kill()
    return True


@pytest.fixture(scope="module")
def exits():
    """Moment → seconds from SIGTERM to the exit; the figure is the longest."""
    found = {}
    yield found
    if found:
        named = {f"sigterm_to_exit_seconds/{moment}": s for moment, s in found.items()}
        write_figures(sigterm_to_exit_seconds=max(found.values()), **named)


QUICKSTART = (
    "--config=configs/synthetic.py",
    "--config.train.eval_every=40",
    "--config.train.steps=120",
)


@pytest.mark.parametrize(
    "moment",
    ["building event sequences", "directory", "steps of", "step 50/", "valid 40/", "goodput"],
)
def test_seconds_from_sigterm_to_exit(tmp_path, exits, moment):
    """The quickstart config: preparing data, compiling, training, validating, evaluating."""
    group = Group(tmp_path / "logs", 1, "train", *QUICKSTART, f"--workdir={tmp_path}/run")
    if moment == "directory":
        while not (tmp_path / "run").exists():
            time.sleep(0.01)
    else:
        group.until(moment)
    group.processes[0].terminate()
    began = time.monotonic()
    assert group.wait(60) == [SAVED], group.text()
    seconds = time.monotonic() - began
    exits[moment.strip("/")] = seconds
    assert seconds <= 5, group.text()
