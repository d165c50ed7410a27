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
from negflax.calibration.fit_data import Data, Part, Weights, chunk_size
from negflax.calibration.kind_terms import PRIOR_MEANS, SCALARS
from negflax.loss import objectives
from negflax.loss.labels import Labels, logsumexp, margins

STEPS = 60
ENOUGH = 1e-7  # decrease of the objective, per label, that ends the fit
MEAN_P = np.array([PRIOR_MEANS[name] for name in SCALARS])


def _margins(b_NM: jax.Array, part: Part) -> tuple[jax.Array, jax.Array]:
    """(margins (N,), components of the denominator (N, M + 1))."""
    own_N = jnp.take_along_axis(b_NM, jnp.maximum(part.place_N, 0)[:, None], axis=1)[:, 0]
    logit_N = part.logit_N + jnp.where(part.place_N >= 0, own_N, 0)
    components = jnp.concatenate([part.lse_NM + b_NM, part.rest_N[:, None]], axis=1)
    nobody_N1 = jnp.zeros((len(logit_N), 1), jnp.int32)
    return margins(logit_N[:, None], nobody_N1, logsumexp(components))[:, 0], components


def _objective(name: str, scalars: Any, part: Part) -> Callable[[jax.Array], jax.Array]:
    """m (N,) → objective of each label (N,)."""

    def of_margins(m_N: jax.Array) -> jax.Array:
        columns = (x[:, None] for x in (m_N, part.logit_N, part.r_N, part.w_N))
        return objectives.get(name)(Labels(*columns), scalars)[:, 0]

    return of_margins


def _shift(theta_P: jax.Array, features: dict[str, Any]) -> jax.Array:
    return kind_terms.shift(dict(zip(SCALARS, theta_P, strict=True)), features, jnp)


@functools.partial(jax.jit, static_argnums=2)
def _losses(theta_P: jax.Array, part: Part, name: str, scalars: Any) -> jax.Array:
    def one(chunk: Part) -> jax.Array:
        m_N, _ = _margins(_shift(theta_P, chunk.features), chunk)
        return _objective(name, scalars, chunk)(m_N)

    return _over_chunks(one, part).reshape(-1)


@functools.partial(jax.jit, static_argnums=2)
def _derivatives(theta_P: jax.Array, part: Part, name: str, scalars: Any) -> Any:
    """(gradients (N, P), Hessian (P, P) of their sum)."""

    def one(chunk: Part) -> Any:
        b_NM = _shift(theta_P, chunk.features)
        x_PNM = kind_terms.shift_gradients(
            dict(zip(SCALARS, theta_P, strict=True)), chunk.features, jnp
        )
        m_N, components = _margins(b_NM, chunk)
        slope = jax.grad(lambda m_N: _objective(name, scalars, chunk)(m_N).sum())
        slope_N, curvature_N = jax.jvp(slope, (m_N,), (jnp.ones_like(m_N),))
        share_NM = jax.nn.softmax(components, axis=1)[:, :-1]
        mean_PN = (x_PNM * share_NM).sum(axis=2)
        place_1N1 = jnp.maximum(chunk.place_N, 0)[None, :, None]
        own_PN = jnp.take_along_axis(x_PNM, place_1N1, axis=2)[:, :, 0]
        moved_PN = jnp.where(chunk.place_N >= 0, own_PN, 0) - mean_PN
        flat = x_PNM.reshape(len(x_PNM), -1)
        second = (flat * (slope_N[:, None] * share_NM).reshape(-1)) @ flat.T
        second -= (slope_N * mean_PN) @ mean_PN.T
        return (slope_N * moved_PN).T, (curvature_N * moved_PN) @ moved_PN.T - second

    gradients, hessians = _over_chunks(one, part)
    return gradients.reshape(-1, len(theta_P)), hessians.sum(axis=0)


def _over_chunks(function: Any, part: Part) -> Any:
    size = chunk_size(*part.lse_NM.shape)
    blocks = len(part.logit_N) // size
    return lax.map(function, jax.tree.map(lambda x: x.reshape(blocks, size, *x.shape[1:]), part))


def losses(theta_P: np.ndarray, data: Data, weights: Weights) -> np.ndarray:
    """(N,) float64 objective of each label."""
    theta_P, how = jnp.asarray(theta_P, jnp.float32), (weights.objective, weights.scalars)
    return data.joined([_losses(theta_P, part, *how) for part in data.parts])


def losses_of_shift(
    shift_of: Callable[[dict[str, Any]], jax.Array], data: Data, weights: Weights
) -> np.ndarray:
    """(N,) float64 objective of each label, if scores move by this function of the features."""
    found = []
    for part in data.parts:
        m_N, _ = _margins(shift_of(part.features), part)
        found.append(_objective(weights.objective, weights.scalars, part)(m_N))
    return data.joined(found)


def mean_negative_p(data: Data) -> float:
    """p̄: mean p of the negative labels, nothing being corrected; NaN where there are none."""
    margins_N = [_margins(jnp.zeros_like(part.lse_NM), part)[0] for part in data.parts]
    p_N = data.joined([jax.nn.sigmoid(m_N) for m_N in margins_N])
    negative_N = data.joined([part.w_N for part in data.parts]) > 0
    return float(p_N[negative_N].mean()) if negative_N.any() else float("nan")


def derivatives(theta_P: np.ndarray, data: Data, weights: Weights) -> tuple[np.ndarray, np.ndarray]:
    """(gradients (N, P) of the labels, Hessian (P, P) of their sum), float64."""
    theta_P, how = jnp.asarray(theta_P, jnp.float32), (weights.objective, weights.scalars)
    gradients, hessians = zip(
        *(_derivatives(theta_P, part, *how) for part in data.parts), strict=True
    )
    return data.joined(gradients), sum(np.asarray(x, np.float64) for x in hessians)


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
