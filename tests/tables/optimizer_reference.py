"""The row optimizers in float64 NumPy, row after row and slow."""

import numpy as np

from negflax.tables.optimizers import ADAM_EPSILON, EPSILON


def one_row(config, slots, g):
    """(new slots, direction) of a row whose gradient is g."""
    name = config.tables
    if name == "sgd":
        return {}, g
    if name == "momentum":
        m = config.momentum * slots.get("m", 0) + g
        return {"m": m}, m
    square = np.mean(g**2) if name.startswith("rowwise") else g**2
    if "adagrad" in name:
        total = slots.get("total", config.adagrad_init) + square
        return {"total": total}, g / np.sqrt(total + EPSILON)
    b1, b2, n = config.momentum, config.adam_b2, slots.get("n", 0) + 1
    m = b1 * slots.get("m", 0) + (1 - b1) * g
    v = b2 * slots.get("v", 0) + (1 - b2) * square
    direction = (m / (1 - b1**n)) / (np.sqrt(v / (1 - b2**n)) + ADAM_EPSILON)
    return {"m": m, "v": v, "n": n}, direction


def train(config, rows_VD, steps, rate, decay=0.0):
    """Rows after `steps`, (ids, gradients) each: duplicates add up, unknown ids do nothing."""
    rows, slots = np.array(rows_VD, np.float64), [{} for _ in rows_VD]
    for ids, gradients in steps:
        merged = {}
        for i, g in zip(ids, np.float64(gradients), strict=True):
            if 0 <= i < len(rows):
                merged[i] = merged.get(i, 0) + g
        for i, g in merged.items():
            slots[i], direction = one_row(config, slots[i], g)
            rows[i] -= rate * (direction + decay * rows[i])
    return rows
