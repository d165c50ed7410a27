"""Nothing is broadcast by accident: (N, 1) margins beside (N,) weights would cost (N, N) labels."""

import jax
import jax.numpy as jnp
import pytest

from negflax.loss import CandidateSet, LabelBatch, Labels, margins, objective_sum, objectives

N, L, E = 3, 2, 4
SCALARS = objectives.Scalars(*[0.5] * len(objectives.Scalars._fields))


def labels(**changes):
    return Labels(
        jnp.ones((N, L)),
        jnp.ones((N, L)),
        jnp.ones((N, L)),
        jnp.ones((N, L)),
        jnp.ones((N, L, E)),
        jnp.zeros((N, L)),
    )._replace(**changes)


@pytest.mark.parametrize("name", sorted(objectives.OBJECTIVES))
@pytest.mark.parametrize("field", ["r_NL", "w_NL"])
@pytest.mark.parametrize("shape", [(L,), (N, 1), (1, L), (N, L, 1)])
def test_every_objective_refuses_weights_of_another_shape(name, field, shape):
    objective = objectives.OBJECTIVES[name]
    assert jax.eval_shape(objective, labels(), SCALARS).shape == (N, L)
    with pytest.raises(ValueError, match=r"has the shape"):
        jax.eval_shape(objective, labels(**{field: jnp.ones(shape)}), SCALARS)


def test_extra_columns_belong_to_their_labels():
    m, extra = jnp.ones((N, L)), jnp.ones((N, 1, E))
    with pytest.raises(ValueError, match="extra has the shape"):
        objectives.ssm_upweighted(m, m, m, extra, 0.5)
    with pytest.raises(ValueError, match="extra has the shape"):
        objectives.gbce(m, m, m, extra, 0.5, 0.5)
    with pytest.raises(ValueError, match="extra has the shape"):
        objectives.contrastive(m, m, m, m, extra, 0.5, 1.0)


def test_objectives_refuse_shapes_that_would_be_broadcast():
    m, w = jnp.ones((N, 1)), jnp.ones(N)
    for function in (objectives.ntr, objectives.ssm, objectives.negative_weight):
        with pytest.raises(ValueError, match=r"r has the shape \(3,\), not \(3, 1\)"):
            function(m, w, w)
    assert objectives.ntr(m, 1.0, 0.0).shape == (N, 1)  # a scalar is no accident


@pytest.mark.parametrize(
    ("logits", "ids", "lse"),
    [((N, L), (N, 1), (N,)), ((N, L), (N, L), (N, 1)), ((N, L), (N, L), (1,))],
)
def test_margins(logits, ids, lse):
    with pytest.raises(ValueError, match="has the shape"):
        margins(jnp.ones(logits), jnp.ones(ids, int), jnp.ones(lse))


@pytest.mark.parametrize("field", ["ids_NL", "r_NL", "w_NL", "log_behaviour_NL"])
def test_objective_sum(field):
    batch = LabelBatch(jnp.ones((N, L), int), *[jnp.ones((N, L))] * 3)
    changed = batch._replace(**{field: jnp.ones((N, 1), batch.ids_NL.dtype)})
    candidates = CandidateSet(jnp.ones((5, 2)), jnp.zeros(5), jnp.arange(5))
    with pytest.raises(ValueError, match=f"{field} has the shape"):
        objective_sum(objectives.OBJECTIVES["ntr"], jnp.ones((N, 2)), changed, candidates)
    with pytest.raises(ValueError, match="logits_NL has the shape"):
        objective_sum(objectives.OBJECTIVES["ntr"], jnp.ones((N + 1, 2)), batch, candidates)
