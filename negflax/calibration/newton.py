"""Fits a handful of scalars by Newton's method on the objective of the run.

With b the correction of a component (a kind of the history, or another label of the state), x its
gradient by the scalars, π the softmax over the components and f the objective of a margin m,

    ∂m/∂θ = x_y − Σ π x,    gradient = Σ f′ ∂m/∂θ,
    Hessian = Σ f″ ∂m/∂θ ∂m/∂θᵀ − f′ (Σ π x xᵀ − (Σ π x)(Σ π x)ᵀ),

where the curvature of b itself, only in the belief, is left out (Gauss and Newton); the damping of
Levenberg and Marquardt takes care of the rest.

Shapes: N labels, M components beside the rest, P scalars, U users.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from negflax.calibration import kind_terms
from negflax.calibration.kind_terms import PRIOR_MEANS, SCALARS, Scales
from negflax.calibration.label_facts import LabelFacts
from negflax.config import ConfigError
from negflax.loss import objectives
from negflax.loss.labels import Labels, logsumexp, margins

CHUNK = 512  # labels whose derivatives are computed at a time: gradients stay in the cache
STEPS = 60
ENOUGH = 1e-7  # decrease of the objective, per label, that ends the fit
MEAN_P = np.array([PRIOR_MEANS[name] for name in SCALARS])


class Weights(NamedTuple):
    """What the objective of the run weighs its labels by.

    Attributes:
      objective: its name.
      r: factor of the positive labels.
      w: factor of the negative labels.
      scalars: further ones (negflax/loss/objectives.py).
    """

    objective: str
    r: float
    w: float
    scalars: objectives.Scalars


class Data(NamedTuple):
    """Labels as the fit reads them, filled up to whole chunks with labels of weight 0.

    Attributes:
      user_N: on the host.
      logit_N: score of the label.
      r_N: weight as a positive, with the run's factor.
      w_N: weight as a negative, likewise.
      place_N: component of the label's own kind, −1 without history.
      lse_NM: log-sum-exp of each component, −inf where there is none.
      rest_N: the same of all that has no correction.
      features: what b is a function of, by name, (N, M).
    """

    user_N: Any
    logit_N: Any
    r_N: Any
    w_N: Any
    place_N: Any
    lse_NM: Any
    rest_N: Any
    features: dict[str, Any]

    @property
    def labels(self) -> int:
        """N, without what fills the last chunk."""
        return int((np.asarray(self.user_N) >= 0).sum())


def data_of(facts: LabelFacts, scales: Scales, weights: Weights) -> Data:
    """One row for each label; the state's other labels are components of their own.

    Raises:
      ConfigError: no label has another item beside it.
    """
    count = facts.ids_NL.shape[1]
    found = kind_terms.features(
        facts.stats_NMF.astype(np.float32), facts.age_N[:, None].astype(np.float32), scales, np
    )
    parts = []
    for label in range(count):
        place_N = facts.place_NL[:, label]
        others = [other for other in range(count) if other != label]
        earlier: list[int] = []
        lse, columns = (
            [facts.lse_NM],
            [np.arange(facts.lse_NM.shape[1])[None].repeat(len(place_N), 0)],
        )
        for other in others:
            id_N = facts.ids_NL[:, other]
            same_N = np.any([id_N == facts.ids_NL[:, one] for one in (label, *earlier)], axis=0)
            lse.append(np.where((id_N >= 0) & ~same_N, facts.logits_NL[:, other], -np.inf)[:, None])
            columns.append(facts.place_NL[:, other][:, None])
            earlier.append(other)
        column_NM = np.concatenate(columns, axis=1)
        features = {
            name: np.where(
                column_NM >= 0, np.take_along_axis(x, np.maximum(column_NM, 0), axis=1), 0
            )
            for name, x in found.items()
        }
        part = Data(
            facts.user_N,
            facts.logits_NL[:, label],
            weights.r * facts.r_NL[:, label],
            weights.w * facts.w_NL[:, label],
            place_N,
            np.concatenate(lse, axis=1),
            facts.rest_N,
            features,
        )
        others_NM = np.c_[part.lse_NM, part.rest_N]
        # Where a label has no other item beside it, p is 1 whatever the scores.
        there_N = (facts.ids_NL[:, label] >= 0) & (others_NM > -np.inf).any(axis=1)
        parts.append(jax.tree.map(lambda x, there_N=there_N: x[there_N], part))
    whole = jax.tree.map(lambda *x: np.concatenate(x), *parts)
    if not len(whole.user_N):
        raise ConfigError(
            "no label has another item to be compared with, as users have seen all others "
            "(config.loss.exclude_seen): there is nothing to calibrate on"
        )
    return _filled(whole)


def _filled(data: Data) -> Data:
    n = len(data.user_N)
    size = min(CHUNK, n)
    more = -n % size

    def fill(x: np.ndarray, value: float = 0) -> np.ndarray:
        return np.pad(x, ((0, more),) + ((0, 0),) * (x.ndim - 1), constant_values=value)

    fixed = {"user_N": -1, "place_N": -1}
    columns = {
        name: jax.tree.map(lambda x, name=name: fill(x, fixed.get(name, 0)), getattr(data, name))
        for name in Data._fields
    }
    on_device = {
        name: jax.tree.map(
            lambda x: jnp.asarray(x, jnp.int32 if x.dtype.kind in "iu" else jnp.float32), one
        )
        for name, one in columns.items()
        if name != "user_N"
    }
    return Data(user_N=columns["user_N"], **on_device)


def _margins(b_NM: jax.Array, data: Data) -> tuple[jax.Array, jax.Array]:
    """(margins (N,), parts of the denominator (N, M + 1))."""
    own_N = jnp.take_along_axis(b_NM, jnp.maximum(data.place_N, 0)[:, None], axis=1)[:, 0]
    logit_N = data.logit_N + jnp.where(data.place_N >= 0, own_N, 0)
    parts = jnp.concatenate([data.lse_NM + b_NM, data.rest_N[:, None]], axis=1)
    nobody_N1 = jnp.zeros((len(logit_N), 1), jnp.int32)
    return margins(logit_N[:, None], nobody_N1, logsumexp(parts))[:, 0], parts


def _objective(name: str, scalars: Any, data: Data) -> Callable[[jax.Array], jax.Array]:
    """m (N,) → objective of each label (N,)."""

    def of_margins(m_N: jax.Array) -> jax.Array:
        columns = (x[:, None] for x in (m_N, data.logit_N, data.r_N, data.w_N))
        return objectives.get(name)(Labels(*columns), scalars)[:, 0]

    return of_margins


def _shift(theta_P: jax.Array, features: dict[str, Any]) -> jax.Array:
    return kind_terms.shift(dict(zip(SCALARS, theta_P, strict=True)), features, jnp)


@functools.partial(jax.jit, static_argnums=2)
def _losses(theta_P: jax.Array, data: Data, name: str, scalars: Any) -> jax.Array:
    def one(part: Data) -> jax.Array:
        m_N, _ = _margins(_shift(theta_P, part.features), part)
        return _objective(name, scalars, part)(m_N)

    return _over_chunks(one, data).reshape(-1)


@functools.partial(jax.jit, static_argnums=2)
def _derivatives(theta_P: jax.Array, data: Data, name: str, scalars: Any) -> Any:
    """(gradients (N, P), Hessian (P, P) of their sum)."""

    def one(part: Data) -> Any:
        b_NM = _shift(theta_P, part.features)
        x_PNM = kind_terms.shift_gradients(
            dict(zip(SCALARS, theta_P, strict=True)), part.features, jnp
        )
        m_N, parts = _margins(b_NM, part)
        slope = jax.grad(lambda m_N: _objective(name, scalars, part)(m_N).sum())
        slope_N, curvature_N = jax.jvp(slope, (m_N,), (jnp.ones_like(m_N),))
        share_NM = jax.nn.softmax(parts, axis=1)[:, :-1]
        mean_PN = (x_PNM * share_NM).sum(axis=2)
        place_1N1 = jnp.maximum(part.place_N, 0)[None, :, None]
        own_PN = jnp.take_along_axis(x_PNM, place_1N1, axis=2)[:, :, 0]
        moved_PN = jnp.where(part.place_N >= 0, own_PN, 0) - mean_PN
        flat = x_PNM.reshape(len(x_PNM), -1)
        second = (flat * (slope_N[:, None] * share_NM).reshape(-1)) @ flat.T
        second -= (slope_N * mean_PN) @ mean_PN.T
        return (slope_N * moved_PN).T, (curvature_N * moved_PN) @ moved_PN.T - second

    gradients, hessians = _over_chunks(one, data)
    return gradients.reshape(-1, len(theta_P)), hessians.sum(axis=0)


def _over_chunks(function: Any, data: Data) -> Any:
    size = min(CHUNK, len(data.logit_N))
    blocks = len(data.logit_N) // size
    return lax.map(function, jax.tree.map(lambda x: x.reshape(blocks, size, *x.shape[1:]), data))


def losses(theta_P: np.ndarray, data: Data, weights: Weights) -> np.ndarray:
    """(N,) float64 objective of each label."""
    on_device = data._replace(user_N=jnp.zeros(len(data.logit_N), jnp.int32))
    theta_P = jnp.asarray(theta_P, jnp.float32)
    return np.asarray(_losses(theta_P, on_device, weights.objective, weights.scalars), np.float64)


def losses_of_shift(b_NM: jax.Array, data: Data, weights: Weights) -> np.ndarray:
    """(N,) float64 objective of each label, the scores of all components being moved by b."""
    m_N, _ = _margins(b_NM, data)
    return np.asarray(_objective(weights.objective, weights.scalars, data)(m_N), np.float64)


def mean_negative_p(data: Data) -> float:
    """p̄: mean p of the negative labels, nothing being corrected; NaN where there are none."""
    m_N, _ = _margins(jnp.zeros_like(data.lse_NM), data)
    negative_N = np.asarray(data.w_N) > 0
    p_N = np.asarray(jax.nn.sigmoid(m_N), np.float64)
    return float(p_N[negative_N].mean()) if negative_N.any() else float("nan")


def derivatives(theta_P: np.ndarray, data: Data, weights: Weights) -> tuple[np.ndarray, np.ndarray]:
    """(gradients (N, P) of the labels, Hessian (P, P) of their sum), float64."""
    on_device = data._replace(user_N=jnp.zeros(len(data.logit_N), jnp.int32))
    theta_P = jnp.asarray(theta_P, jnp.float32)
    found = _derivatives(theta_P, on_device, weights.objective, weights.scalars)
    return np.asarray(found[0], np.float64), np.asarray(found[1], np.float64)


class Fit(NamedTuple):
    """Where the fit ended.

    Attributes:
      theta_P: the scalars, 0 for those left out.
      error_P: standard errors, robust and clustered by user; NaN for those left out.
      optimism_N: what to add to the objective of each label for that of a fit without its user, to
        first order: with the gradients g and the Hessian H, the scalars move by H⁻¹ g of the user.
    """

    theta_P: np.ndarray
    error_P: np.ndarray
    optimism_N: np.ndarray


def fit(
    data: Data, weights: Weights, free: list[int], deviation: float, start_P: np.ndarray
) -> Fit:
    """Minimises Σ losses + ½ Σ ((θ − prior mean) / deviation)² over the free scalars.

    Args:
      data: labels to fit on.
      weights: of the objective.
      free: places of the free scalars in SCALARS; the others are 0.
      deviation: of the prior.
      start_P: where to start.
    """
    theta_P = np.zeros(len(SCALARS))
    theta_P[free] = start_P[free]

    def value(theta_P: np.ndarray) -> float:
        prior = (((theta_P - MEAN_P)[free] / deviation) ** 2).sum() / 2
        return losses(theta_P, data, weights).sum() + prior

    now, damping = value(theta_P), 1e-3
    for _ in range(STEPS):
        gradient_NP, hessian = derivatives(theta_P, data, weights)
        slope = gradient_NP.sum(axis=0)[free] + (theta_P - MEAN_P)[free] / deviation**2
        curved = hessian[np.ix_(free, free)] + np.eye(len(free)) / deviation**2
        size, axes = np.linalg.eigh((curved + curved.T) / 2)
        better = False
        for _ in range(8):
            tried_P = theta_P.copy()
            tried_P[free] -= axes @ ((axes.T @ slope) / (np.abs(size) * (1 + damping) + damping))
            found = value(tried_P)
            if np.isfinite(found) and found < now:
                better = True
                break
            damping *= 10
        if not better:
            break
        decrease, now, theta_P, damping = now - found, found, tried_P, damping / 10
        if decrease < ENOUGH * data.labels:
            break
    return _fitted(theta_P, data, weights, free, deviation)


def _fitted(
    theta_P: np.ndarray, data: Data, weights: Weights, free: list[int], deviation: float
) -> Fit:
    gradient_NP, hessian = derivatives(theta_P, data, weights)
    gradient_NP = gradient_NP[:, free]
    _, place_N = np.unique(data.user_N, return_inverse=True)
    score_UP = np.zeros((place_N.max() + 1, len(free)))
    np.add.at(score_UP, place_N, gradient_NP)
    inverse = np.linalg.pinv(hessian[np.ix_(free, free)] + np.eye(len(free)) / deviation**2)
    error_P = np.full(len(SCALARS), np.nan)
    error_P[free] = np.sqrt(np.maximum(np.diag(inverse @ (score_UP.T @ score_UP) @ inverse), 0))
    optimism_N = np.einsum("np,np->n", gradient_NP, (score_UP @ inverse)[place_N])
    return Fit(theta_P, error_P, optimism_N)
