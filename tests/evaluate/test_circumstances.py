"""Input that would give wrong or empty figures: an error or a warning that says so."""

import dataclasses
import json
import logging
import math

import jax
import pytest

from negflax.config import Config, ConfigError, EvalConfig, MeshConfig, ModelConfig
from negflax.evaluate import evaluation
from negflax.evaluate.report import run_page as page
from negflax.mesh import make_mesh
from negflax.model import Recommender
from negflax.serve import ModelError
from negflax.train.restore import Trained
from negflax.train.step import Trainer

CONFIG = Config(
    model=ModelConfig(hidden=4, embedding=4, feature_dim=2, features=("dislike",)),
    eval=EvalConfig(ks=(3,), history=4, bootstrap=20),
)
TRAIN = [(1, "+", "train"), (2, "-", "train")]


@pytest.fixture(scope="module")
def trained(make_sequences):
    """Random parameters for eight items."""
    catalogue = make_sequences([TRAIN], 8).catalogue
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    model = Recommender(CONFIG.model, catalogue)
    state = Trainer(CONFIG, model, catalogue.train_count_V, 1, mesh).init()
    return Trained(CONFIG, catalogue, model, state, 7, mesh)


def evaluate(trained, sequences):
    return evaluation.evaluate_trained(trained, "test", "", sequences)


def test_users_without_a_history_get_the_list_of_a_new_user(trained, make_sequences):
    users = [[(5, "+", "test")], [*TRAIN, (5, "+", "test"), (6, "-", "test")]]
    metrics = evaluate(trained, make_sequences(users, 8)).metrics
    assert (metrics["users"], metrics["users_without_history"]) == (2, 1)
    assert metrics["hr_p@3_n"] == 2 and 0 <= metrics["hr_p@3"] <= 1


@pytest.mark.parametrize(
    ("sign", "undefined", "defined"),
    [
        ("+", ["hr_n@3", "anti_ndcg@3", "coverage@3", "delta@3", "auc"], "hr_p@3"),
        ("-", ["hr_p@3", "ndcg_p@3", "recall@3", "delta@3", "auc"], "hr_n@3"),
    ],
)
def test_labels_of_one_sign(trained, make_sequences, sign, undefined, defined, caplog, tmp_path):
    """Metrics about the other are null with n = 0, and the page is made all the same."""
    sequences = make_sequences([[*TRAIN, (5, sign, "test")], [(4, sign, "test")]], 8)
    with caplog.at_level(logging.WARNING):
        result = evaluate(trained, sequences)
    other = "negative" if sign == "+" else "positive"
    words = f"no {other} label in the test period: metrics of {other}s are undefined"
    assert words in caplog.text
    for key in undefined:
        for name in (key, f"popularity/{key}", f"kept/{key}"):
            assert (result.metrics[name], result.metrics[f"{name}_n"]) == (None, 0), name
            assert result.metrics[f"{name}_low"] is None
    assert result.metrics[defined] is not None
    json.dumps(result.metrics, allow_nan=False)
    assert "–" in evaluation.result_table(result, CONFIG.eval.ks)
    shown = page.look_at("run", trained, result, sequences, "test", tmp_path)
    path = page.write_page(tmp_path / "page.html", "test", [shown])
    assert "nan" not in path.read_text().replace("nan-", "").lower().split("</style>")[1]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_table_that_is_not_finite(trained, make_sequences, value):
    table = trained.state["tables"]["item"]
    broken = {"item": {"rows": table["rows"].at[3, 1].set(value).at[5].set(value)}}
    diverged = dataclasses.replace(trained, state=trained.state | {"tables": broken})
    sequences = make_sequences([[*TRAIN, (5, "+", "test")]], 8)
    with pytest.raises(ModelError, match="step 7: table 'item' has 2 rows with NaN .* row 3"):
        evaluate(diverged, sequences)


def test_a_list_longer_than_the_catalogue(trained, make_sequences):
    ks = dataclasses.replace(CONFIG, eval=dataclasses.replace(CONFIG.eval, ks=(3, 9)))
    sequences = make_sequences([[*TRAIN, (5, "+", "test")]], 8)
    with pytest.raises(ConfigError, match=r"eval.ks = \(3, 9\): the catalogue has only 8 items"):
        evaluate(dataclasses.replace(trained, config=ks), sequences)


def test_labels_on_unknown_items_are_counted(trained, make_sequences, caplog):
    sequences = make_sequences([[*TRAIN, (5, "+", "test")]], 8)
    report = {"unknown_items": {"test": {"events": 9, "positives": 4, "negatives": 5}}}
    with caplog.at_level(logging.WARNING):
        metrics = evaluate(trained, dataclasses.replace(sequences, report=report)).metrics
    assert (metrics["unknown_positives"], metrics["unknown_negatives"]) == (4, 5)
    assert "9 labels of the test period were left out" in caplog.text
    assert "1 remain. Check that this is the log" in caplog.text
