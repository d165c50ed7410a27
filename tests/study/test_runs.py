"""Runs from a shared warm start: fair, resumable, the same each time."""

import jax
import numpy as np
import pytest

from negflax.config import (
    BatchConfig,
    Config,
    EvalConfig,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
    WorldConfig,
)
from negflax.data import open_sequences
from negflax.evaluate.baselines.markov import default_baselines
from negflax.evaluate.protocol import EvaluationError
from negflax.evaluate.ranking import rank_scorers
from negflax.mesh import make_mesh
from negflax.study import ARMS, Runs, quality, strata
from negflax.study.ranked import read_ranks
from negflax.study.training import summary
from negflax.train.state import grafted

CONFIG = Config(
    world=WorldConfig(num_users=80, num_items=60, num_creators=20, num_clusters=5, steps=30),
    batch=BatchConfig(rows=4, length=10),
    model=ModelConfig(hidden=8, embedding=8),
    optimizer=OptimizerConfig(warmup_steps=1),
    train=TrainConfig(epochs=0.4),
    eval=EvalConfig(history=10, bootstrap=50),
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return Runs(
        CONFIG, folder, open_sequences(CONFIG, folder), make_mesh(CONFIG.mesh, jax.devices()[:1])
    )


def leaves(state):
    return jax.tree.leaves(jax.device_get(state))


def assert_same(a, b):
    for x, y in zip(leaves(a), leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def test_an_arm_without_weight_is_positives_only(runs):
    before = leaves(runs.warm("valid", 0))
    stop = runs.steps[1]
    ssm = runs.go_on(ARMS["ssm"], ARMS["ssm"].loss(0.0, 1.0), "valid", 0, stop)
    ntr = runs.go_on(ARMS["ntr"], ARMS["ntr"].loss(0.0, 1.0), "valid", 0, stop)
    for x, y in zip(leaves(ssm[0]), leaves(ntr[0]), strict=True):  # but for how XLA fuses them
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
    weighed, trace = runs.go_on(ARMS["ntr"], ARMS["ntr"].loss(1.0, 0.01), "valid", 0, stop)
    assert any((x != y).any() for x, y in zip(leaves(weighed), leaves(ntr[0]), strict=True))
    assert trace.shape == (stop - runs.steps[0], 2)
    for x, y in zip(before, leaves(runs.warm("valid", 0)), strict=True):
        np.testing.assert_array_equal(x, y)  # nobody moved what all start from
    assert 0 < runs.p_bar("valid", 0) < 1


def test_a_run_is_made_once_and_judged(runs):
    judge = quality.Judge(runs, "valid")
    build = quality.spread(runs, "valid", filters=True)
    first = runs.run("ssm", ARMS["ssm"], 0.0, "valid", 0, build)
    again = Runs(CONFIG, runs.workdir, runs.sequences, runs.mesh)
    again.go_on = None  # would be an error
    second = again.run("ssm", ARMS["ssm"], 0.0, "valid", 0, build)
    assert first.figures == second.figures
    assert {"", "beta=1", "block_creator"} <= set(first.ranks)
    means = judge.means(first.ranks[""])
    assert all(0 <= means[name] <= 1 for name in ("hr_p", "hr_n", "auc"))
    columns = {name: [judge.columns(one)] for name, one in first.ranks.items()}
    found = judge.estimates(columns)
    assert found["", "hr_p"].value == pytest.approx(means["hr_p"])
    assert found["", "delta"].value == pytest.approx(means["hr_p"] - means["hr_n"])
    assert ("", "quality=low/auc") in found
    assert "random" in runs.baselines("valid").ranks


def test_parts_hold_every_negative_once(runs):
    queries = runs.queries["test"]
    parts = strata.parts(runs.sequences, queries, ("train", "valid"))
    negative_J = ~queries.judged_positive_J
    for kind in (
        ("negative=same_item", "negative=related", "negative=unrelated"),
        ("quality=low", "quality=middle", "quality=high"),
    ):
        assert (sum(parts[name].astype(int) for name in kind)[negative_J] == 1).all()
    for group in ("creator", "cluster"):
        both = parts[f"{group}=rejected"] & parts[f"{group}=other"]
        assert not both[negative_J].any()
    same = parts["negative=same_item"]
    some = parts["creator=rejected"] | parts["cluster=rejected"]
    np.testing.assert_array_equal(
        (some & negative_J), (parts["negative=related"] & ~same & negative_J)
    )


def test_grafting_copies_what_is_known_and_keeps_what_is_new():
    old = {"dense": {"a": np.ones(2)}, "step": np.int32(5)}
    new = {"dense": {"a": np.zeros(2), "head": np.full(1, 7.0)}, "step": np.int32(0)}
    found = grafted(old, new)
    assert (found["dense"]["a"] == 1).all()
    assert (found["dense"]["head"], found["step"]) == (7, 5)
    found["dense"]["a"][0] = 9
    assert old["dense"]["a"][0] == 1


def test_a_summary_counts_what_is_not_finite():
    trace = np.stack([np.ones(40), np.arange(40.0)], axis=1)
    assert summary(trace) == {
        "max_logit": 39,
        "growth": pytest.approx(100),
        "non_finite_steps": 0,
        "steps": 40,
    }
    trace[30] = np.inf
    assert summary(trace)["non_finite_steps"] == 1
    assert np.isnan(summary(trace)["growth"])


def test_stored_ranks_are_those_of_the_evaluation(runs, tmp_path):
    asked, sequences = runs.queries["test"], runs.sequences
    scorers = default_baselines(sequences, ("train", "valid"), 0)  # popularity is full of ties
    names = runs.rank(tmp_path / "one", None, lambda _: scorers, "test")
    theirs = rank_scorers(scorers, asked, sequences, (True, False), 16)
    ours = {name: read_ranks(tmp_path / f"one+{name}") for name in names}
    for (masked, name), expected in theirs.items():
        for field in ("greater_J", "ties_J", "eligible_J"):
            np.testing.assert_array_equal(
                getattr(ours[name][masked], field), getattr(expected, field), f"{name} {field}"
            )


def test_a_diverged_model_is_named(runs, tmp_path):
    def broken(asked):
        return np.full((len(asked), runs.sequences.catalogue.num_rows), np.nan)

    with pytest.raises(EvaluationError, match="model: score nan"):
        runs.rank(tmp_path / "one", broken, None, "test")
