"""A small world that shows the gradients, outcomes and drift of every objective (method.md §3).

It has two user states and one set of item vectors. Both states like two popular items equally. The
second state also dislikes one of them, and a rare item that has no positive labels. Training on
positives only treats the rare item like a cold item, which has no labels at all.

Shapes: two states, V items, D width, W weights side by side.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from negflax.loss.labels import Labels
from negflax.loss.objectives import OBJECTIVES, Scalars

SCALARS = Scalars(
    upweight=1.0,
    w_max=0.3,
    epsilon=1e-3,
    penalty=1.0,
    gamma=2.0,
    rho_max=10.0,
    top_k=1.0,
    gbce_t=0.75,
    sampling_rate=1.0,
    contrastive=0.1,
    inverse_temperature=1.0,
)
LOGITS = (5.0, 0.0, -5.0, -10.0, -20.0)  # logits of the label; the other items have 0, 0 and 1
DISLIKED_POPULAR, LIKED_POPULAR, COLD, DISLIKED_RARE = range(4)


class Case(NamedTuple):
    """Label rates per state and item; each popular item gets a fifth of the positives.

    Attributes:
      positive_SV: rates a of positive labels.
      negative_SV: rates b of negative labels.
      steps: number of updates with the objective, after as many on positives only.
      rate: learning rate of Adam.
    """

    positive_SV: np.ndarray
    negative_SV: np.ndarray
    steps: int = 3000
    rate: float = 0.02


def _case(items: int = 40, skips: float = 0.3) -> Case:
    positive = np.full((2, items), 0.6 / (items - 4))
    positive[:, [DISLIKED_POPULAR, LIKED_POPULAR]] = 0.2
    positive[:, [COLD, DISLIKED_RARE]] = 0.0
    negative = np.zeros((2, items))
    negative[1, [DISLIKED_POPULAR, DISLIKED_RARE]] = skips
    return Case(positive, negative)


CASE = _case()


def gradient_rows() -> list[dict[str, Any]]:
    """Returns the absolute ∂L/∂z_y and ∂L/∂p, and the loss, of a negative of weight 1.

    There is a row per p and objective.
    """
    rows = []
    for z in LOGITS:
        m = z - np.log(2 + np.e)
        p = 1 / (1 + np.exp(-m))
        for name in OBJECTIVES:
            if name in ("ssm", "ssm_upweighted", "gbce"):  # no negative term, or not one of p
                continue
            value, slope = jax.value_and_grad(functools.partial(_negative, name))(m)
            rows.append(
                {
                    "objective": name,
                    "p": f"{p:.3g}",
                    "|dL/dz|": f"{abs(float(slope)):.3g}",
                    "|dL/dp|": f"{abs(float(slope)) / (p * (1 - p)):.3g}",
                    "loss": f"{value:.3g}",
                }
            )
    return rows


def _negative(name: str, m: jax.Array) -> jax.Array:
    one = functools.partial(jnp.full, (1, 1))
    # The logging policy shows the item with probability one half.
    seen = Labels(one(m), one(m), one(0.0), one(1.0), jnp.zeros((1, 1, 1)), one(jnp.log(0.5)))
    return OBJECTIVES[name](seen, SCALARS)[0, 0]


def case_outcomes(
    name: str, weights: tuple[float, ...], case: Case = CASE, seed: int = 0
) -> list[dict[str, float]]:
    """Trains an objective on the case, once for each weight of the negatives.

    Returns:
      For each weight: p of the four items in the second state (`disliked_popular`,
      `liked_popular`, `cold`, `disliked_rare`), the largest absolute logit (`max_logit`), its
      growth over the last tenth of the steps (`drift`), and whether a value was not finite
      (`not_finite`).
    """
    found = jax.vmap(lambda w: _trained(name, w, case, seed))(jnp.asarray(weights))
    found = jax.device_get(found)
    return [{k: float(v[i]) for k, v in found.items()} for i in range(len(weights))]


@functools.partial(jax.jit, static_argnums=(0, 3))
def _run(name: str, w: jax.Array, rates: tuple[jax.Array, jax.Array], plan: tuple) -> dict:
    steps, rate, seed = plan
    positive, negative = rates
    states, items = positive.shape
    keys = jax.random.split(jax.random.key(seed))
    start = {
        "states": 0.5 * jax.random.normal(keys[0], (states, 8)),
        "items": 0.5 * jax.random.normal(keys[1], (items, 8)),
        "bias": jnp.zeros(items),
    }
    optimizer = optax.adam(rate)
    logged = (positive + negative) / jnp.sum(positive + negative, 1, keepdims=True)
    same = jnp.eye(items, dtype=bool)

    def logits(x):
        return x["states"] @ x["items"].T + x["bias"]

    def loss(x, weight):
        z_SV = logits(x)
        lse_SV = jax.nn.logsumexp(jnp.where(same, -jnp.inf, z_SV[:, None, :]), axis=2)
        disliked = (negative > 0)[:, None, :] if name != "gbce" else jnp.ones((1, 1, items), bool)
        extra = jnp.where(disliked & ~same, z_SV[:, None, :], -jnp.inf)
        seen = Labels(
            z_SV - lse_SV,
            z_SV,
            positive,
            weight * negative,
            extra,
            jnp.log(jnp.maximum(logged, 1e-6)),
        )
        scalars = SCALARS._replace(upweight=weight, contrastive=0.1 * jnp.sign(weight))
        return jnp.sum(OBJECTIVES[name](seen, scalars))

    def step(weight):
        def update(carry, _):
            x, opt = carry
            change, opt = optimizer.update(jax.grad(loss)(x, weight), opt)
            x = optax.apply_updates(x, change)
            return (x, opt), jnp.max(jnp.abs(logits(x)))

        return update

    carry, _ = jax.lax.scan(step(jnp.zeros_like(w)), (start, optimizer.init(start)), None, steps)
    (x, _), largest = jax.lax.scan(step(w), carry, None, steps)
    p = jax.nn.softmax(logits(x))[1]
    return {
        "disliked_popular": p[DISLIKED_POPULAR],
        "liked_popular": p[LIKED_POPULAR],
        "cold": p[COLD],
        "disliked_rare": p[DISLIKED_RARE],
        "max_logit": largest[-1],
        "drift": largest[-1] - largest[-1 - steps // 10],
        "not_finite": jnp.any(~jnp.isfinite(largest)),
    }


def _trained(name: str, w: jax.Array, case: Case, seed: int) -> dict:
    rates = jnp.asarray(case.positive_SV), jnp.asarray(case.negative_SV)
    return _run(name, w, rates, (case.steps, case.rate, seed))
