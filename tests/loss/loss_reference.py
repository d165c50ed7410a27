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
            if np.isneginf(denominator):  # p = 1 whatever the logits: the label tells nothing
                continue
            m = label_logits_NL[n, i] - denominator
            total += r_NL[n, i] * softplus(-m) + w_NL[n, i] * softplus(m)
    return total


def objective(name, m, z, r, w, s, extra=(), log_behaviour=0.0):
    """(loss, ∂loss/∂m, or ∂loss/∂z_y for `gbce`) of one label, by docs/method.md §3.

    `extra` are logits of the state's own columns; numbers are float64 and moderate.
    """
    p, extra = 1 / (1 + np.exp(-m)), np.asarray(extra, np.float64)
    if name == "ssm":
        return -r * np.log(p), -r * (1 - p)
    if name == "ntr":
        return -r * np.log(p) - w * np.log(1 - p), -r * (1 - p) + w * p
    if name == "ssm_upweighted":
        p = np.exp(z) / (np.exp(z) + np.exp(z - m) + s.upweight * np.exp(extra).sum())
        return -r * np.log(p), -r * (1 - p)  # of z_y
    if name in ("negative_weight", "negative_weight_limited"):
        w = min(w, s.w_max) if name.endswith("limited") else w
        return (w - r) * np.log(p), (w - r) * (1 - p)
    if name == "smoothed":
        return (w - r) * np.log(p + s.epsilon), (w - r) * p * (1 - p) / (p + s.epsilon)
    if name == "probability_regularized":
        return -r * np.log(p) + s.penalty * w * p, -r * (1 - p) + s.penalty * w * p * (1 - p)
    if name == "focal":
        scale = (w - r) * (1 - p) ** s.gamma
        return scale * np.log(p), scale * (1 - p - s.gamma * p * np.log(p))
    if name == "reinforce":
        rho = min(p / np.exp(log_behaviour), s.rho_max)
        gain = w - r * s.top_k * (1 - p) ** (s.top_k - 1)
        return rho * gain * np.log(p), rho * gain * (1 - p)
    sigma = 1 / (1 + np.exp(-z))
    if name == "gbce":
        beta, share = 1 - s.gbce_t * (1 - s.sampling_rate), 1 / (len(extra) + 1)
        positive = -beta * np.log(sigma) - np.log(1 / (1 + np.exp(extra))).sum()
        return share * (r * positive - w * np.log(1 - sigma)), share * (
            -r * beta * (1 - sigma) + w * sigma
        )
    ratio = np.exp((extra - z) * s.inverse_temperature).sum()
    value, slope = objective("ntr", m, z, r, w, s)
    pull = s.contrastive * r * s.inverse_temperature * ratio / (1 + ratio)
    return value + s.contrastive * r * np.log(1 + ratio), slope - pull
