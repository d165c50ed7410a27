"""The figures of the benchmarks of training and accuracy, from rows as their processes print."""

import statistics

import pyarrow as pa
import pytest

from benchmarks import accuracy, learning_curve, training
from negflax.config import check
from negflax.data.sources import RawData


def test_figures_of_training_are_medians_and_their_ratios():
    def rows(*rates, **more):
        return [{"targets_per_cpu_second": rate, **more} for rate in rates]

    found = training.figures_of(
        {
            "negflax sampled": rows(60.0, 80.0, 70.0, roof=100.0),
            "negflax full": rows(50.0, roof=100.0),
            "PyTorch nn.GRU sampled": [{"error": "none"}, *rows(35.0)],
            "RecBole GRU4Rec": rows(1.0),
        }
    )
    assert found == {
        "targets_per_cpu_second": 70.0,
        "targets_per_cpu_second_full": 50.0,
        "ratio_vs_torch": 2.0,
        "ratio_vs_recbole": 50.0,
        "share_of_roof": 0.7,
        "share_of_roof_full": 0.5,
    }
    alone = {k: rows(1.0, roof=1.0) for k in training.OURS}
    assert training.figures_of(alone)["ratio_vs_torch"] is None


def test_figures_of_accuracy_have_mean_deviation_and_seeds():
    rows = [
        {"model": "gru", "hr@10": hr, "ndcg@10": hr / 2, "CPU s": 10.0} for hr in (0.30, 0.32, 0.31)
    ]
    found = accuracy.figures_of(rows)
    assert found["gru/hr@10"] == pytest.approx(0.31)
    assert found["gru/ndcg@10_std"] == pytest.approx(statistics.stdev((0.15, 0.16, 0.155)))
    assert found["gru/hr@10_seeds"] == 3
    assert accuracy.figures_of(rows[:1])["gru/hr@10_std"] is None


@pytest.mark.parametrize("name", accuracy.MODELS)
def test_every_model_is_a_config_that_is_accepted(name):
    config = accuracy.config_of(name, 3)
    check(config)
    assert config.train.seed == config.batch.seed == 3


def test_the_events_of_some_users():
    events = pa.table({"user_id": [7, 7, 5, 9, 5, 7], "item_id": [1, 2, 3, 4, 5, 6]})
    raw = RawData(events, None, "made up")
    two = learning_curve.of_users(raw, 2).events
    assert len(set(two["user_id"].to_pylist())) == 2
    for user in set(two["user_id"].to_pylist()):  # whole histories
        counts = [x["user_id"].to_pylist().count(user) for x in (two, events)]
        assert counts[0] == counts[1] > 0
    assert learning_curve.of_users(raw, 3).events.equals(events)
