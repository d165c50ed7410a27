import logging
import sys
import types

import pytest

from negflax.config import ConfigError
from negflax.train.writers import MetricWriter, read_metrics


def test_loggers_get_the_metrics_and_are_ended(tmp_path, monkeypatch):
    # Stand-ins with the loggers' own names: neither package is needed to test what is sent.
    calls = []
    run = types.SimpleNamespace(
        log=lambda values, step: calls.append(("wandb", step, values)),
        finish=lambda: calls.append("wandb ended"),
    )
    wandb = types.ModuleType("wandb")
    wandb.init = lambda project, dir: run
    mlflow = types.ModuleType("mlflow")
    mlflow.start_run = lambda run_name: None
    mlflow.log_metrics = lambda values, step: calls.append(("mlflow", step, values))
    mlflow.end_run = lambda: calls.append("mlflow ended")
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    writer = MetricWriter(tmp_path, loggers=("wandb", "mlflow"))
    writer.write(3, "valid", {"hr_p@10": 0.5, "undefined": None})
    writer.close()
    sent = {"valid/hr_p_at_10": 0.5}
    assert calls == [("wandb", 3, sent), ("mlflow", 3, sent), "wandb ended", "mlflow ended"]


def test_a_logger_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"pip install negflax\[loggers\]"):
        MetricWriter(tmp_path, loggers=("wandb",))


def test_names_are_those_that_tensorboard_accepts(tmp_path, caplog):
    writer = MetricWriter(tmp_path)
    with caplog.at_level(logging.INFO):
        writer.write(3, "valid", {"dcg@10/lambda=2": 0.5, "ndcg_p@10/vs_a b": 1.0})
    writer.close()
    assert "illegal" not in caplog.text
    assert read_metrics(tmp_path)[0]["dcg@10/lambda=2"] == 0.5  # our own file keeps the names
