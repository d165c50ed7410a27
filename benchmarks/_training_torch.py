"""The same training in PyTorch: prints a row as JSON. Needs numpy and torch, not negflax.

  python _training_torch.py CASE THREADS STREAM.npy

STREAM holds the items of all users one after the other (1 to V−1), cut into rows of 16 × 200. Rows
are not reset where a user begins, so that PyTorch computes nothing that negflax does not. The model
is that of configs/ml1m_sequences.py: one table for input and output, nn.GRU of width 128 (or two
blocks of causal attention with two heads, as SASRec), dropout, the label against 2,048 shared
uniform samples with logQ correction and without accidental hits, or against all items; Adam over
all parameters in one fused call, gradients clipped. Variants: float32, bfloat16 autocast, each with
and without torch.compile of the loss. The fastest counts.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import sys
import time

if __name__ == "__main__" and sys.argv[2] == "1":
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.environ["OMP_NUM_THREADS"] = "1"
if __name__ == "__main__":  # the allocator's settings of negflax/allocator.py
    for name, value in ((-4, 0), (-1, 2**31 - 1), (-2, 64 << 20), (-8, 1)):
        ctypes.CDLL(None).mallopt(name, value)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

ROWS, LENGTH, WIDTH, SAMPLES = 16, 200, 128, 2048
WARM_UP, STEPS = 5, 60


class Encoder(nn.Module):
    """Item ids (B, T) → states (B, T, D)."""

    def __init__(self, items: int, kind: str):
        super().__init__()
        self.item = nn.Embedding(items, WIDTH)
        nn.init.normal_(self.item.weight, std=WIDTH**-0.5)
        self.bias = nn.Parameter(torch.zeros(items))
        self.kind, self.dropout = kind, nn.Dropout(0.1)
        if kind == "gru":
            self.body = nn.GRU(WIDTH, WIDTH, batch_first=True)
        else:
            block = nn.TransformerEncoderLayer(
                WIDTH, 2, 2 * WIDTH, 0.1, batch_first=True, norm_first=True
            )
            self.body = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
            self.position = nn.Parameter(torch.zeros(LENGTH, WIDTH))

    def forward(self, ids_bt: torch.Tensor) -> torch.Tensor:
        x = self.dropout(self.item(ids_bt) * math.sqrt(WIDTH))
        if self.kind == "gru":
            return self.dropout(self.body(x)[0])
        mask = nn.Transformer.generate_square_subsequent_mask(LENGTH)
        return self.body(x + self.position, mask=mask, is_causal=True)


def sampled_loss(states, label_n, table, bias, sample_s, log_q):
    """Cross-entropy of the label against shared samples, corrected by log q."""
    own_n = (states * table[label_n]).sum(1) + bias[label_n]
    logits_ns = states @ table[sample_s].T + (bias[sample_s] - log_q)
    logits_ns = logits_ns.masked_fill(label_n[:, None] == sample_s, -math.inf)
    all_logits = torch.cat([own_n[:, None], logits_ns], 1)
    return functional.cross_entropy(all_logits.float(), torch.zeros_like(label_n))


def full_loss(states, label_n, table, bias, sample_s, log_q):
    """Cross-entropy over all items."""
    return functional.cross_entropy((states @ table.T + bias).float(), label_n)


def measure(kind: str, full: bool, half: bool, compiled: bool, stream: np.ndarray) -> float:
    """Targets a CPU second of the whole process."""
    items = int(stream.max()) + 1
    torch.manual_seed(0)
    model = Encoder(items, kind)
    loss_of = full_loss if full else sampled_loss
    if compiled:
        loss_of = torch.compile(loss_of)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    rng, log_q = np.random.default_rng(0), math.log(SAMPLES / (items - 1))
    size = ROWS * LENGTH
    start = 0.0
    for step in range(WARM_UP + STEPS):
        if step == WARM_UP:
            start = time.process_time()
        first = step * size % (len(stream) - size - 1)
        ids = torch.from_numpy(stream[first : first + size].reshape(ROWS, LENGTH))
        label = torch.from_numpy(stream[first + 1 : first + size + 1])
        sample = torch.from_numpy(rng.integers(1, items, SAMPLES))
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            states = model(ids).reshape(-1, WIDTH)
            loss = loss_of(states, label, model.item.weight, model.bias, sample, log_q)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return STEPS * size / (time.process_time() - start)


def main(case: str, threads: int, path: str) -> dict[str, object]:
    """The fastest variant, and all of them."""
    if threads == 1:
        torch.set_num_threads(1)
    kind, full = case.removesuffix("_full"), case.endswith("_full")
    stream = np.load(path).astype(np.int64)
    found: dict[str, float | str] = {}
    for half in (False, True):
        for compiled in (False, True):
            name = ("bfloat16" if half else "float32") + (", compiled" if compiled else "")
            try:
                found[name] = measure(kind, full, half, compiled, stream)
            except Exception as error:  # noqa: BLE001 - a variant that this machine cannot run
                found[name] = f"{type(error).__name__}: {error}".splitlines()[0]
    rates = {name: x for name, x in found.items() if isinstance(x, float)}
    best = max(rates, key=rates.__getitem__)
    return {
        "targets_per_cpu_second": rates[best],
        "variant": best,
        "variants": found,
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
