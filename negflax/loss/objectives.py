"""Objectives: what a label costs, given its margin and weights (docs/method.md §3).

Per label, with m the margin and p = sigmoid(m); all but `gbce` are functions of m, and
∂m/∂z_y = 1, ∂m/∂z_j = −π_j, π the softmax over the other items: the L1 norm of a label's gradient
over all logits is twice its slope in m. In softplus(±m) all are finite for finite logits.
docs/choosing_an_objective.md says when to use which. Scalars are run-time values, so that sweeps
can vmap them. Margins and weights of other shapes raise a ValueError: nothing is broadcast.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.nn import softplus

from negflax import config
from negflax.config import ConfigError
from negflax.loss.labels import Labels, logsumexp, require_shapes


class Scalars(NamedTuple):
    """Run-time scalars of the objectives, described in LossConfig.

    Attributes:
      upweight: α of `ssm_upweighted`.
      w_max: cap of `negative_weight_limited`.
      epsilon: ε of `smoothed`.
      penalty: λ of `probability_regularized`.
      gamma: γ of `focal`.
      rho_max: cap on ρ = π/β of `reinforce`.
      top_k: K of `reinforce`; 1 is plain REINFORCE.
      gbce_t: t of `gbce`, from 0 (plain cross-entropy) to 1 (as calibrated as a full softmax).
      sampling_rate: share of the other items that `gbce` draws for a state.
      contrastive: weight of the contrastive term.
      inverse_temperature: 1/τ of it.
    """

    upweight: jax.Array | float
    w_max: jax.Array | float
    epsilon: jax.Array | float
    penalty: jax.Array | float
    gamma: jax.Array | float
    rho_max: jax.Array | float
    top_k: jax.Array | float
    gbce_t: jax.Array | float
    sampling_rate: jax.Array | float
    contrastive: jax.Array | float
    inverse_temperature: jax.Array | float


def _require_extra(m: jax.Array, extra: jax.Array) -> None:
    """Holds extra columns (N, L, E) to the labels (N, L) that they belong to."""
    if jnp.shape(extra)[:-1] != jnp.shape(m) or not jnp.ndim(extra):
        wanted = (*jnp.shape(m), "E")
        raise ValueError(f"extra has the shape {jnp.shape(extra)}, not {wanted}")


def ssm(m: jax.Array, r: jax.Array, w: jax.Array) -> jax.Array:
    """−r log p: positives only; w is ignored.  ∂/∂m = −r(1 − p).  Jean et al. 2015."""
    require_shapes(jnp.shape(m), r=r, w=w)
    del w
    return r * softplus(-m)


def ntr(m: jax.Array, r: jax.Array, w: jax.Array) -> jax.Array:
    """Not-to-recommend: −r log p − w log(1 − p).  ∂/∂m = −r(1 − p) + w·p.

    The push on a negative is bounded by w and vanishes as p → 0. Eq. 1 of arXiv 2308.12256.
    """
    require_shapes(jnp.shape(m), r=r, w=w)
    return r * softplus(-m) + w * softplus(m)


def ssm_upweighted(m: jax.Array, r: jax.Array, w: jax.Array, extra: jax.Array, upweight):
    """−r log p′, p′ with α copies of the state's recent negatives in the denominator.

    m′ = z_y − log(exp lse + α Σ_e exp z_e); ∂/∂m′ = −r(1 − p′). A negative is pushed where its
    state has a positive label, by p′ of it; w is ignored. The alternative in arXiv 2308.12256.

    Args:
      m: margins (N, L).
      r: weights of positive labels.
      w: ignored.
      extra: z_e − lse over the other items, (N, L, E); −inf where absent.
      upweight: α, at least 0; 0 is `ssm`.
    """
    _require_extra(m, extra)
    # m′ = m − log(1 + α Σ_e exp(z_e − lse))
    log_alpha = jnp.where(upweight > 0, jnp.log(jnp.where(upweight > 0, upweight, 1)), -jnp.inf)
    more = logsumexp(extra) + log_alpha
    none = jnp.isneginf(more)
    return ssm(m - jnp.where(none, 0, softplus(jnp.where(none, 0, more))), r, w)


def negative_weight(m: jax.Array, r: jax.Array, w: jax.Array) -> jax.Array:
    """−r log p + w log p: cross-entropy with a negative weight.  ∂/∂m = (w − r)(1 − p).

    Unbounded below in m on negatives: the push does not vanish with p, so that logits drift.
    """
    require_shapes(jnp.shape(m), r=r, w=w)
    return (r - w) * softplus(-m)


def negative_weight_limited(m: jax.Array, r: jax.Array, w: jax.Array, w_max) -> jax.Array:
    """−r log p + min(w, w_max) log p: slower, but it drifts as well."""
    return negative_weight(m, r, jnp.minimum(w, w_max))


def smoothed(m: jax.Array, r: jax.Array, w: jax.Array, epsilon) -> jax.Array:
    """−(r − w) log(p + ε).  ∂/∂m = (w − r) p(1 − p)/(p + ε): dies out once p ≪ ε.

    So it does for positives: those below ε are hardly learned; ε belongs below 1/V.
    """
    require_shapes(jnp.shape(m), r=r, w=w)
    positive = epsilon > 0
    log_epsilon = jnp.where(positive, jnp.log(jnp.where(positive, epsilon, 1)), -jnp.inf)
    return (w - r) * jnp.logaddexp(-softplus(-m), log_epsilon)


def probability_regularized(m: jax.Array, r: jax.Array, w: jax.Array, penalty) -> jax.Array:
    """−r log p + λ·w·p.  ∂/∂m = −r(1 − p) + λ·w·p(1 − p): NTR's, weaker where p is near 1."""
    require_shapes(jnp.shape(m), r=r, w=w)
    return r * softplus(-m) + penalty * w * jax.nn.sigmoid(m)


def focal(m: jax.Array, r: jax.Array, w: jax.Array, gamma) -> jax.Array:
    """−(r − w)(1 − p)^γ log p.  ∂/∂m = (w − r)(1 − p)^γ (1 − p − γ·p·log p).

    On negatives (1 − p)^γ → 1 as p → 0: it drifts like `negative_weight`. Lin et al. 2017.
    """
    require_shapes(jnp.shape(m), r=r, w=w)
    return (r - w) * jnp.exp(-gamma * softplus(m)) * softplus(-m)


def reinforce(
    m: jax.Array, r: jax.Array, w: jax.Array, log_behaviour: jax.Array | None, rho_max, top_k
) -> jax.Array:
    """−r·ρ·λ_K·log π + w·ρ·log π, policy π = p, negative reward −w.

    ρ = min(π/β, rho_max) and λ_K = K(1 − π)^(K−1) are constants of the gradient:
    ∂/∂m = ρ(w − r·λ_K)(1 − p). Chen et al. 2019, Top-K off-policy correction, arXiv 1812.02353.

    Args:
      m: margins (N, L).
      r: rewards of positive labels.
      w: size of the negative rewards.
      log_behaviour: log β(y|s); None where r and w carry 1/β already (logged propensities).
      rho_max: cap on ρ.
      top_k: K.
    """
    require_shapes(jnp.shape(m), r=r, w=w, log_behaviour=log_behaviour)
    log_p = -softplus(-m)
    log_rho = log_p if log_behaviour is None else log_p - log_behaviour
    rho = lax.stop_gradient(jnp.exp(jnp.minimum(log_rho, jnp.log(jnp.maximum(rho_max, 1e-30)))))
    multiplier = lax.stop_gradient(top_k * jnp.exp(-jnp.maximum(top_k - 1, 0) * softplus(m)))
    return rho * (w - r * multiplier) * log_p


def gbce(
    z: jax.Array, r: jax.Array, w: jax.Array, extra: jax.Array, gbce_t, sampling_rate
) -> jax.Array:
    """(r·(β·softplus(−z_y) + Σ_k softplus(z_k)) + w·softplus(z_y)) / (K + 1), β = 1 − t(1 − rate).

    ∂/∂z_y = (−r·β(1 − σ) + w·σ)/(K + 1) and r·σ(z_k)/(K + 1), σ the sigmoid of the logit itself: no
    softmax. Petrov and Macdonald 2023, gSASRec, arXiv 2308.07192; the negative label's term is
    plain binary cross-entropy.

    Args:
      z: label logits (N, L).
      r: weights of positive labels.
      w: weights of negative labels.
      extra: logits of the state's K sampled negatives (N, L, K); −inf where it is the label.
      gbce_t: t.
      sampling_rate: K over the number of other items.
    """
    require_shapes(jnp.shape(z), r=r, w=w)
    _require_extra(z, extra)
    beta = 1 - gbce_t * (1 - sampling_rate)
    absent = jnp.isneginf(extra)
    sampled = jnp.sum(jnp.where(absent, 0, softplus(jnp.where(absent, 0, extra))), axis=-1)
    scale = 1 / (extra.shape[-1] + 1)
    return scale * (r * (beta * softplus(-z) + sampled) + w * softplus(z))


def contrastive(
    m: jax.Array,
    r: jax.Array,
    w: jax.Array,
    z: jax.Array,
    extra: jax.Array,
    contrastive,
    inverse_temperature,
) -> jax.Array:
    """Cross-entropies of both kinds and r·c·log(1 + Σ_e exp((z_e − z_y)/τ)).

    After PNFRec (arXiv 2508.14786), which has an encoder for each kind of feedback. With a single
    one the negative's cross-entropy is the complement's, −log(1 − p), and the contrast is between
    the positive label and the state's recent negatives. So c = 0 is `ntr`.

    Args:
      m: margins (N, L).
      r: weights of positive labels.
      w: weights of negative labels.
      z: label logits (N, L).
      extra: logits of the recent negatives (N, L, E); −inf where absent.
      contrastive: c.
      inverse_temperature: 1/τ.
    """
    require_shapes(jnp.shape(m), z=z)
    _require_extra(m, extra)
    absent = jnp.isneginf(extra)
    difference = jnp.where(absent, 0, extra) - z[..., None]
    scaled = difference * jnp.asarray(inverse_temperature)[..., None]
    against = logsumexp(jnp.where(absent, -jnp.inf, scaled))
    none = jnp.isneginf(against)
    term = jnp.where(none, 0, softplus(jnp.where(none, 0, against)))
    return ntr(m, r, w) + contrastive * r * term


Objective = Callable[[Labels, Scalars], jax.Array]

OBJECTIVES: dict[str, Objective] = {
    "ntr": lambda x, _: ntr(x.margins_NL, x.r_NL, x.w_NL),
    "ssm": lambda x, _: ssm(x.margins_NL, x.r_NL, x.w_NL),
    "ssm_upweighted": lambda x, s: ssm_upweighted(
        x.margins_NL,
        x.r_NL,
        x.w_NL,
        # z_e − lse = (z_e − z_y) + m
        x.extra_NLE - (x.logits_NL - x.margins_NL)[..., None],
        s.upweight,
    ),
    "negative_weight": lambda x, _: negative_weight(x.margins_NL, x.r_NL, x.w_NL),
    "negative_weight_limited": lambda x, s: negative_weight_limited(
        x.margins_NL, x.r_NL, x.w_NL, s.w_max
    ),
    "smoothed": lambda x, s: smoothed(x.margins_NL, x.r_NL, x.w_NL, s.epsilon),
    "probability_regularized": lambda x, s: probability_regularized(
        x.margins_NL, x.r_NL, x.w_NL, s.penalty
    ),
    "focal": lambda x, s: focal(x.margins_NL, x.r_NL, x.w_NL, s.gamma),
    "reinforce": lambda x, s: reinforce(
        x.margins_NL, x.r_NL, x.w_NL, x.log_behaviour_NL, s.rho_max, s.top_k
    ),
    "gbce": lambda x, s: gbce(x.logits_NL, x.r_NL, x.w_NL, x.extra_NLE, s.gbce_t, s.sampling_rate),
    "contrastive": lambda x, s: contrastive(
        x.margins_NL,
        x.r_NL,
        x.w_NL,
        x.logits_NL,
        x.extra_NLE,
        s.contrastive,
        s.inverse_temperature,
    ),
}


_REGISTERED: dict[str, Objective] = {}  # users' own; the names stand in config.OBJECTIVES too


def register_objective(
    name: str,
    function: Objective,
    *,
    positives_only: bool = False,
    extra: Literal["", "recent_negatives", "sampled"] = "",
) -> None:
    """Makes `name` a choice of config.loss.objective, for training, saving and loading.

    Call it where a module of yours is imported: before the config is checked, and again before a
    run with that objective is loaded. Of registered objectives the config checks nothing but the
    name, and `function` is all that is called::

        def hinge(labels, scalars):
            m = labels.margins_NL
            return labels.r_NL * jnp.maximum(0, 1 - m) + labels.w_NL * jnp.maximum(0, 1 + m)

        negflax.register_objective("hinge", hinge)

    Args:
      name: a letter, then letters, digits, `_`, `.` or `-`.
      function: (Labels, Scalars) → (N, L), the cost of every label; differentiable in the margins
        and logits, and traced by JAX. Where r and w are 0 there is no label: what it returns there
        must be finite, and is left out.
      positives_only: it ignores the negative labels' weights: no warm-up, no weight policy.
      extra: the state's own items that it reads as `labels.extra_NLE`: its `recent_negatives`
        (config.loss.recent_negatives of them), or `sampled` ones (config.loss.gbce_negatives).

    Raises:
      ConfigError: the name is built in or another module's; or `function` or `extra` is unfit.
    """
    if not callable(function):
        raise ConfigError(f"negflax.register_objective({name!r}, …): give a function")
    if extra not in ("", "recent_negatives", "sampled"):
        raise ConfigError(
            f"negflax.register_objective({name!r}, …, extra={extra!r}): choose 'recent_negatives' "
            "or 'sampled', or leave it out"
        )
    config.OBJECTIVES.add(name, config.Traits(positives_only, extra), config.calling_module())
    _REGISTERED[name] = functools.partial(_own, name, function)


def _own(name: str, function: Objective, labels: Labels, scalars: Scalars) -> jax.Array:
    """A user's objective, held to the shape of the labels; absent labels cost nothing."""
    cost_NL = jnp.asarray(function(labels, scalars))
    if cost_NL.shape != labels.margins_NL.shape:
        raise ConfigError(
            f"config.loss.objective = {name!r} returns shape {cost_NL.shape}: the cost of every "
            f"label is needed, shape {labels.margins_NL.shape} as labels.margins_NL"
        )
    return jnp.where((labels.r_NL != 0) | (labels.w_NL != 0), cost_NL, 0)


def get(name: str) -> Objective:
    """The objective of that name, built in or registered.

    Raises:
      ConfigError: it is unknown; the message lists the known ones.
    """
    objective = OBJECTIVES.get(name) or _REGISTERED.get(name)
    if objective is None:
        raise ConfigError(config.OBJECTIVES.unknown(name))
    return objective
