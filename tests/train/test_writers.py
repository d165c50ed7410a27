"""Metric writers never stop, block or fail a run."""

import errno
import json
import logging
import sys
import threading
import types

import pytest

from negflax.config import ConfigError
from negflax.train import background, writers
from negflax.train.background import Background
from negflax.train.json_lines import JsonLines, read_lines
from negflax.train.writers import MetricWriter, read_metrics


def test_loggers_get_the_metrics_and_are_ended(tmp_path, monkeypatch):
    # Stand-ins with the loggers' own names: neither package is needed to test what is sent.
    calls = {"wandb": [], "mlflow": []}
    run = types.SimpleNamespace(
        log=lambda values, step: calls["wandb"].append((step, values)),
        finish=lambda: calls["wandb"].append("ended"),
    )
    wandb = types.ModuleType("wandb")
    wandb.init = lambda project, dir: run
    mlflow = types.ModuleType("mlflow")
    mlflow.start_run = lambda run_name: None
    mlflow.log_metrics = lambda values, step: calls["mlflow"].append((step, values))
    mlflow.end_run = lambda: calls["mlflow"].append("ended")
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    writer = MetricWriter(tmp_path, loggers=("wandb", "mlflow"))
    writer.write(3, "valid", {"hr_p@10": 0.5, "undefined": None})
    writer.close()
    sent = {"valid/hr_p_at_10": 0.5}
    assert calls == {"wandb": [(3, sent), "ended"], "mlflow": [(3, sent), "ended"]}


def test_a_logger_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"pip install negflax\[loggers\]"):
        MetricWriter(tmp_path, loggers=("wandb",))


def test_names_are_those_that_tensorboard_accepts(tmp_path, caplog):
    writer = MetricWriter(tmp_path)
    with caplog.at_level(logging.INFO):
        writer.write(3, "valid", {"dcg@10/lambda=2": 0.5, "ndcg_p@10/vs_a b": 1.0})
    writer.close()
    assert not caplog.text
    assert read_metrics(tmp_path)[0]["dcg@10/lambda=2"] == 0.5  # our own file keeps the names
    [events] = (tmp_path / "tensorboard").iterdir()
    assert b"dcg_at_10/lambda_2" in events.read_bytes()


def test_a_sink_that_hangs_blocks_nobody(monkeypatch, caplog):
    monkeypatch.setattr(background, "WAITING", 4)
    monkeypatch.setattr(background, "CLOSE_S", 0.1)
    release, written = threading.Event(), []
    sink = types.SimpleNamespace(
        write=lambda value: (release.wait(), written.append(value)), close=lambda: None
    )
    writer = Background("a disk", lambda: sink)
    for value in range(100):
        writer.write(value)
    writer.close()
    assert len(caplog.records) == 1 and "a disk: it hangs" in caplog.text
    release.set()


def test_an_error_is_one_warning_and_the_next_values_are_tried(caplog):
    written = []

    def write(value):
        if value < 50:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(value)

    writer = Background("a disk", lambda: types.SimpleNamespace(write=write, close=lambda: None))
    for value in range(60):
        writer.write(value)
    writer.close()
    assert written == list(range(50, 60))
    assert len(caplog.records) == 1 and "No space left" in caplog.text


def test_a_full_disk_loses_only_metrics(tmp_path, monkeypatch, caplog):
    class Full:
        def __init__(self, *_):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writers, "EventsWriter", Full)
    monkeypatch.setattr(writers, "JsonLines", Full)
    writer = MetricWriter(tmp_path)
    for step in range(30):
        writer.write(step, "train", {"loss": 1.0})
    writer.close()
    assert len(caplog.records) == 2  # one for each of the two


def test_a_line_that_was_cut_off_by_a_full_disk_ends_before_the_next(tmp_path):
    lines = JsonLines(tmp_path / "lines")
    lines.write({"a": 1})
    whole = lines._file
    lines._file = types.SimpleNamespace(write=lambda line: whole.write(line[:3]))
    with pytest.raises(OSError, match="No space"):
        lines.write({"a": 2})
    lines._file = whole
    lines.write({"a": float("nan")})
    lines.close()
    assert read_lines(tmp_path / "lines") == [{"a": 1}, {"a": None}]


@pytest.mark.parametrize(
    "bad", [b"no json", b"\0\0\0\0", b'{"step": 2, "x": "\xff"}', b"[]", b'{"step": "2"}', b"3"]
)
def test_a_damaged_log_stops_nothing(tmp_path, bad, caplog):
    good = [json.dumps({"step": step, "kind": "train"}).encode() for step in (1, 2, 3)]
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join([good[0], bad, *good[1:]]) + b"\n")
    assert [x["step"] for x in read_metrics(tmp_path)] == [1, 2, 3]
    writer = MetricWriter(tmp_path, first_step=2)
    writer.write(3, "train", {"loss": 1.0})
    writer.close()
    assert [x["step"] for x in read_metrics(tmp_path)] == [1, 2, 3]
    assert bad not in (tmp_path / "metrics.jsonl").read_bytes().split(b"\n")
