"""PyTorch's encoders for benchmarks/encoder.py: prints CPU microseconds an event as JSON.

  python _encoder_torch.py STEPS EVENTS WIDTH

The faster of float32 and bfloat16 autocast, forward and backward, on one thread.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time

os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
os.environ["OMP_NUM_THREADS"] = "1"
for name, value in ((-4, 0), (-1, 2**31 - 1), (-2, 64 << 20), (-8, 1)):
    ctypes.CDLL(None).mallopt(name, value)  # as negflax/allocator.py

import torch  # noqa: E402
from torch import nn  # noqa: E402

STEPS, EVENTS, WIDTH = map(int, sys.argv[1:4])
torch.set_num_threads(1)


class Attention(nn.Module):
    """One pre-norm block with two heads, causal."""

    def __init__(self):
        super().__init__()
        self.block = nn.TransformerEncoderLayer(
            WIDTH, 2, 2 * WIDTH, 0.0, batch_first=True, norm_first=True
        )

    def forward(self, x):
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        return (self.block(x, src_mask=mask, is_causal=True),)


def microseconds(module: nn.Module, half: bool, repeats: int = 10) -> float:
    """Per event."""
    x = torch.randn(EVENTS // STEPS, STEPS, WIDTH, requires_grad=True)
    start = 0.0
    for repeat in range(repeats + 2):
        if repeat == 2:
            start = time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            states = module(x)[0]
        (states.float() * x).sum().backward()
        module.zero_grad(set_to_none=True)
        x.grad = None
    return (time.process_time() - start) / repeats / EVENTS * 1e6


found = {}
for name, build in (
    ("nn.GRU", lambda: nn.GRU(WIDTH, WIDTH, batch_first=True)),
    ("nn.LSTM", lambda: nn.LSTM(WIDTH, WIDTH, batch_first=True)),
    ("attention", Attention),
):
    module = build()
    found[name] = min(microseconds(module, half) for half in (False, True))
print(json.dumps(found))
