"""The not-to-recommend loss in one call, for models of any kind.

    L = (1/n) Σ −r·log p(y|s) − w·log(1 − p(y|s)),    n the number of labels with a weight

on the path that training itself takes: log-sum-exp and gradients are made block by block, so that
no array of states × items ever exists (negflax/loss/total.py).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from negflax.loss.labels import LabelBatch
from negflax.loss.logsumexp import BLOCK_ELEMENTS, CandidateSet, KernelOptions
from negflax.loss.objectives import OBJECTIVES
from negflax.loss.total import objective_sum


def ntr_loss(
    states_ND: jax.Array,
    items_VD: jax.Array,
    label_ids_NL: jax.Array,
    r_NL: jax.Array,
    w_NL: jax.Array,
    *,
    bias_V: jax.Array | None = None,
    candidate_ids_S: jax.Array | None = None,
    log_q_S: jax.Array | None = None,
    block_elements: int = BLOCK_ELEMENTS,
    implementation: str = "auto",
) -> jax.Array:
    """The mean NTR loss of the labels, differentiable in states, items and bias.

    p(y|s) is the softmax over the catalogue, or over sampled candidates. The other labels of a
    state always count in the denominator. Draw candidates anew each step, for all states together.

    Args:
      states_ND: user states, floating point.
      items_VD: item vectors, of the states' dtype.
      label_ids_NL: rows of the labels in `items_VD`, integers (N, L), or (N,) for one label a
        state; -1 where a label is absent.
      r_NL: weights of positive labels, of the shape of the ids; 0 where none.
      w_NL: weights of negative labels, of the shape of the ids; 0 where none.
      bias_V: a bias for each item; none by default.
      candidate_ids_S: rows of the sampled candidates; by default every item is a candidate.
      log_q_S: of sampled candidates, the log of how often each is expected among them, which is
        subtracted from its logit.
      block_elements: logits that are alive at a time.
      implementation: of the log-sum-exp: `auto`, `xla`, `mosaic_gpu` or `mosaic_tpu`.

    Returns:
      A scalar: the sum over all labels, divided by the number of labels that are present with a
      weight above 0, as in training. It is 0 where there is none, and NaN where an id, under jit,
      is no row of `items_VD`.

    Raises:
      ValueError: shapes that do not belong together, ids that are no integers, or, outside of jit,
        an id that is no row of `items_VD`.
    """
    _check_labels(states_ND, items_VD, label_ids_NL, r_NL, w_NL)
    _check_candidates(items_VD, bias_V, candidate_ids_S, log_q_S)
    states_ND, items_VD = jnp.asarray(states_ND), jnp.asarray(items_VD)
    num_items, dtype = len(items_VD), states_ND.dtype
    label_ids_NL = _rows(label_ids_NL, "label_ids_NL", num_items, absent=True)
    label_ids_NL, r_NL, w_NL = (
        jnp.reshape(x, (len(states_ND), -1)) for x in (label_ids_NL, r_NL, w_NL)
    )
    label_ids_NL = jnp.where(label_ids_NL < -1, num_items, label_ids_NL)  # no row, like V itself
    present_NL = label_ids_NL >= 0
    r_NL, w_NL = (jnp.where(present_NL, x, 0).astype(dtype) for x in (r_NL, w_NL))

    # Rows that do not exist read as NaN: a wrong id cannot pass for a number.
    at_NL = jnp.maximum(label_ids_NL, 0)
    label_NLD = items_VD.at[at_NL].get(mode="fill", fill_value=jnp.nan)
    logits_NL = jnp.einsum("nd,nld->nl", states_ND, label_NLD)
    if bias_V is not None:
        bias_V = jnp.asarray(bias_V)
        logits_NL += bias_V[at_NL]
    logits_NL = jnp.where(present_NL, logits_NL, 0)

    candidates_SD, bias_S = items_VD, bias_V
    if candidate_ids_S is None:
        candidate_ids_S = jnp.arange(num_items, dtype=jnp.int32)
    else:
        candidate_ids_S = _rows(candidate_ids_S, "candidate_ids_S", num_items)
        candidates_SD = items_VD.at[candidate_ids_S].get(mode="fill", fill_value=jnp.nan)
        bias_S = None if bias_V is None else bias_V[candidate_ids_S]
    if bias_S is None:
        bias_S = jnp.zeros(len(candidates_SD), dtype)
    if log_q_S is not None:
        bias_S = bias_S - jnp.asarray(log_q_S, dtype)

    total, _ = objective_sum(
        OBJECTIVES["ntr"],
        states_ND,
        LabelBatch(label_ids_NL, logits_NL, r_NL, w_NL),
        CandidateSet(candidates_SD, bias_S, candidate_ids_S),
        options=KernelOptions(implementation, block_elements),
    )
    labels = jnp.sum(r_NL + w_NL > 0)
    return total / jnp.maximum(labels, 1).astype(total.dtype)


def _check_labels(states_ND, items_VD, label_ids, r, w):
    """Nothing is broadcast: (N, 1) beside (N,) would silently give (N, N)."""
    states, items, ids = jnp.shape(states_ND), jnp.shape(items_VD), jnp.shape(label_ids)
    if len(states) != 2 or len(items) != 2 or states[1] != items[1]:
        raise ValueError(
            f"states_ND has the shape {states} and items_VD {items}: give (N, D) and (V, D), with "
            "the same width D"
        )
    if len(ids) not in (1, 2) or ids[0] != states[0]:
        raise ValueError(
            f"label_ids_NL has the shape {ids}: give ({states[0]}, L), or ({states[0]},) for one "
            "label per state"
        )
    for name, x in (("r_NL", r), ("w_NL", w)):
        if jnp.shape(x) != ids:
            raise ValueError(
                f"{name} has the shape {jnp.shape(x)}, label_ids_NL {ids}: give equal shapes"
            )


def _check_candidates(items_VD, bias_V, candidate_ids_S, log_q_S):
    num_items = jnp.shape(items_VD)[:1]
    if bias_V is not None and jnp.shape(bias_V) != num_items:
        raise ValueError(f"bias_V has the shape {jnp.shape(bias_V)}: give {num_items}")
    if log_q_S is not None and (
        candidate_ids_S is None or jnp.shape(log_q_S) != jnp.shape(candidate_ids_S)
    ):
        raise ValueError("log_q_S belongs to candidate_ids_S: give both, of equal shapes")


def _rows(ids: jax.Array, name: str, num_items: int, absent: bool = False) -> jax.Array:
    """The ids as int32, checked where their values are known."""
    if not jnp.issubdtype(jnp.result_type(ids), jnp.integer):
        raise ValueError(f"{name} has the dtype {jnp.result_type(ids)}: give integers")
    if not isinstance(ids, jax.core.Tracer):
        known = np.asarray(ids)
        wrong = (known >= num_items) | (known < (-1 if absent else 0))
        if wrong.any():
            raise ValueError(
                f"{name} holds {known[wrong][0]}: rows of items_VD are 0 to {num_items - 1}"
                + (", -1 marks an absent label" if absent else "")
            )
    return jnp.asarray(ids).astype(jnp.int32)
