import jax.numpy as jnp
import loss_reference as reference
import numpy as np
import pytest

from negflax.config import Config, ConfigError, LossConfig
from negflax.config.checks import check
from negflax.loss import OBJECTIVES, CandidateSet, LabelBatch, objective_sum
from negflax.loss.label_smoothing import mean_item, smoothing_sum

N, V, D, SHARE = 9, 23, 4, 0.15


def test_the_sum_is_the_cross_entropy_with_smoothed_labels():
    rng = np.random.default_rng(0)
    states, table = (rng.normal(size=shape).astype(np.float32) for shape in ((N, D), (V, D)))
    bias, r = rng.normal(size=V).astype(np.float32), rng.random((N, 1)).astype(np.float32)
    ids = rng.integers(1, V, (N, 1)).astype(np.int32)
    ids[-1], r[-1], r[0] = -1, 0, 0  # absent, and of no weight
    log_q = np.where(np.arange(V) == 0, np.inf, 0).astype(np.float32)  # row 0 is no item
    logits = (states @ table.T + bias).astype(np.float64)
    own = np.take_along_axis(logits, np.maximum(ids, 0), axis=1)
    labels = LabelBatch(jnp.asarray(ids), jnp.asarray(own, jnp.float32), jnp.asarray(r), 0 * r)
    candidates = CandidateSet(jnp.asarray(table), jnp.asarray(bias - log_q), jnp.arange(V))
    hard = objective_sum(OBJECTIVES["ssm"], jnp.asarray(states), labels, candidates)[0]
    mean = mean_item(jnp.asarray(table), jnp.asarray(bias), jnp.asarray(log_q))
    found = hard + SHARE * smoothing_sum(jnp.asarray(states), labels.logits_NL, labels.r_NL, *mean)

    log_p = logits[:, 1:] - reference.logsumexp(logits[:, 1:])[:, None]
    own_log_p = np.take_along_axis(log_p, np.maximum(ids - 1, 0), axis=1)[:, 0]
    cost = -(1 - SHARE) * own_log_p - SHARE * log_p.mean(axis=1)
    np.testing.assert_allclose(found, np.sum(r[:, 0] * cost), rtol=1e-5)


def test_the_mean_of_a_sample_is_that_of_the_catalogue():
    rng = np.random.default_rng(1)
    table, bias, q = rng.normal(size=(V, D)), rng.normal(size=V), rng.dirichlet(np.ones(V))
    drawn = rng.choice(V, 200_000, p=q)
    log_q = np.log(len(drawn) * q)[drawn]
    vector, mean_bias = mean_item(*(jnp.asarray(x) for x in (table[drawn], bias[drawn], log_q)))
    np.testing.assert_allclose(vector, table.mean(0), atol=0.05)
    np.testing.assert_allclose(mean_bias, bias.mean(), atol=0.05)


def test_other_objectives_are_refused():
    loss = LossConfig(objective="focal", label_smoothing=0.1)
    with pytest.raises(ConfigError, match=r"config\.loss\.label_smoothing"):
        check(Config(loss=loss))
