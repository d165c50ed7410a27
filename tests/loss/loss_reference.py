"""The loss in float64 NumPy, slow and obvious: what every implementation must agree with."""

import numpy as np


def logits(states_ND, candidates_SD, bias_S, ids_S, exclude_NL):
    """(N, S) float64, −inf where the candidate is excluded for the state."""
    z = np.float64(states_ND) @ np.float64(candidates_SD).T + np.float64(bias_S)
    excluded = (np.asarray(exclude_NL)[:, :, None] == np.asarray(ids_S)[None, None, :]).any(1)
    return np.where(excluded, -np.inf, z)


def logsumexp(z_NS):
    """Row by row."""
    out = np.full(len(z_NS), -np.inf)
    for n, row in enumerate(z_NS):
        row = row[row > -np.inf]
        if len(row):
            out[n] = row.max() + np.log(np.exp(row - row.max()).sum())
    return out


def logsumexp_gradients(states_ND, candidates_SD, bias_S, ids_S, exclude_NL, g_N):
    """(∂states, ∂candidates, ∂bias) of Σ_n g_n lse_n."""
    z = logits(states_ND, candidates_SD, bias_S, ids_S, exclude_NL)
    lse = logsumexp(z)
    with np.errstate(invalid="ignore"):
        softmax = np.where(np.isneginf(lse)[:, None], 0, np.exp(z - lse[:, None]))
    weight = softmax * np.float64(g_N)[:, None]
    return (
        weight @ np.float64(candidates_SD),
        weight.T @ np.float64(states_ND),
        weight.sum(0),
    )


def softplus(x):
    """log(1 + exp(x)) without overflow."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def ntr_sum(label_logits_NL, label_ids_NL, lse_N, r_NL, w_NL):
    """Σ r·softplus(−m) + w·softplus(m), label by label; other labels count in the denominator."""
    total = 0.0
    for n in range(len(lse_N)):
        for i, y in enumerate(label_ids_NL[n]):
            if y < 0:
                continue
            others = {
                int(k): label_logits_NL[n, j]
                for j, k in reversed(list(enumerate(label_ids_NL[n])))
                if k >= 0 and k != y
            }
            terms = np.array([lse_N[n], *others.values()], np.float64)
            denominator = logsumexp(terms[None])[0]
            m = 1000.0 if np.isneginf(denominator) else label_logits_NL[n, i] - denominator
            total += r_NL[n, i] * softplus(-m) + w_NL[n, i] * softplus(m)
    return total
