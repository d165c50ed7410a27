"""What benchmarks/loss_kernel.py compares: each method builds its compiled calls for a problem."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from negflax.loss import (
    OBJECTIVES,
    CandidateSet,
    LabelBatch,
    candidate_logsumexp,
    margins,
    ntr,
    objective_sum,
)

OURS = "ours"


class Problem(NamedTuple):
    """States, candidates (= catalogue, ids 0..S−1), one label a state and its weights."""

    states_ND: np.ndarray
    candidates_SD: np.ndarray
    label_N1: np.ndarray
    r_N1: np.ndarray
    w_N1: np.ndarray


@dataclasses.dataclass(frozen=True)
class Calls:
    """Blocking calls: forward and backward, forward alone; temporary memory in MB if known."""

    both: Callable[[], Any]
    forward: Callable[[], Any]
    state_gradient: Callable[[], Any]
    temp_mb: float | None


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to compute the loss.

    Attributes:
      build: problem → calls.
      both_terms: it computes −log(1 − p) as well.
      arrays: (N, S) float32 arrays it keeps, to tell whether it fits.
    """

    build: Callable[[Problem], Calls]
    both_terms: bool
    arrays: int


def _jax(loss: Callable[..., jax.Array]) -> Callable[[Problem], Calls]:
    """Calls of loss(states, candidates, problem)."""

    def build(p: Problem) -> Calls:
        arguments = jnp.asarray(p.states_ND), jnp.asarray(p.candidates_SD)
        rest = Problem(*arguments, *map(jnp.asarray, p[2:]))

        def total(states, candidates):
            return loss(states, candidates, rest)

        both = jax.jit(jax.value_and_grad(total, (0, 1))).lower(*arguments).compile()
        forward = jax.jit(total).lower(*arguments).compile()
        return Calls(
            both=lambda: jax.block_until_ready(both(*arguments)),
            forward=lambda: jax.block_until_ready(forward(*arguments)),
            state_gradient=lambda: both(*arguments)[1][0],
            temp_mb=both.memory_analysis().temp_size_in_bytes / 1e6,
        )

    return build


def _naive(states, candidates, p):
    py = jnp.take_along_axis(jax.nn.softmax(states @ candidates.T, axis=1), p.label_N1, 1)
    return -jnp.sum(p.r_N1 * jnp.log(py) + p.w_N1 * jnp.log1p(-py))


def _margin_autodiff(states, candidates, p):
    logits = states @ candidates.T
    others = jnp.where(jnp.arange(len(candidates)) == p.label_N1, -jnp.inf, logits)
    lse = jax.nn.logsumexp(others, axis=1, keepdims=True)
    margin = jnp.take_along_axis(logits, p.label_N1, 1) - lse
    return jnp.sum(ntr(margin, p.r_N1, p.w_N1))


def _optax(states, candidates, p):
    logits = states @ candidates.T
    return optax.softmax_cross_entropy_with_integer_labels(logits, p.label_N1[:, 0]).sum()


def _ours(states, candidates, p, r_N1=None, w_N1=None):
    total, _ = objective_sum(
        OBJECTIVES["ntr"],
        states,
        LabelBatch(
            ids_NL=p.label_N1,
            logits_NL=_label_logits(states, candidates, p),
            r_NL=p.r_N1 if r_N1 is None else r_N1,
            w_NL=p.w_N1 if w_N1 is None else w_N1,
        ),
        CandidateSet(candidates, jnp.zeros(len(candidates)), jnp.arange(len(candidates))),
    )
    return total


def _ours_positive(states, candidates, p):
    return _ours(states, candidates, p, jnp.ones_like(p.r_N1), jnp.zeros_like(p.w_N1))


def _ours_bf16(states, candidates, p):
    return _ours(states.astype(jnp.bfloat16), candidates.astype(jnp.bfloat16), p)


def _ours_any_cotangent(states, candidates, p):
    lse = candidate_logsumexp(
        states, candidates, candidate_ids_S=jnp.arange(len(candidates)), exclude_ids_NL=p.label_N1
    )
    return jnp.sum(
        ntr(margins(_label_logits(states, candidates, p), p.label_N1, lse), p.r_N1, p.w_N1)
    )


def _label_logits(states, candidates, p):
    return jnp.einsum("nd,nld->nl", states, candidates[p.label_N1])


def _tokamax(implementation: str) -> Callable[[Problem], Calls]:
    def build(p: Problem) -> Calls:
        import tokamax

        def loss(states, candidates, p):
            return tokamax.linear_softmax_cross_entropy_loss(
                states,
                p.label_N1[:, 0],
                candidates.T,
                reduction="sum",
                implementation=implementation,
            )

        return _jax(loss)(p)

    return build


def _torch(make_loss: Callable[..., Any], gpu_only: bool = False) -> Callable[[Problem], Calls]:
    """Calls of make_loss(torch)(states, candidates, label); bfloat16 operands on a GPU."""

    def build(p: Problem) -> Calls:
        import torch

        on_gpu = torch.cuda.is_available()
        if gpu_only and not on_gpu:
            raise RuntimeError("needs a GPU")
        kind = {"device": "cuda", "dtype": torch.bfloat16} if on_gpu else {}
        states = torch.tensor(p.states_ND, requires_grad=True, **kind)
        candidates = torch.tensor(p.candidates_SD, requires_grad=True, **kind)
        label = torch.tensor(p.label_N1[:, 0], dtype=torch.long, device=states.device)
        loss = make_loss(torch)

        def wait():
            if on_gpu:
                torch.cuda.synchronize()

        def both():
            states.grad = candidates.grad = None
            loss(states, candidates, label).backward()
            wait()

        def forward():
            with torch.no_grad():
                loss(states, candidates, label)
            wait()

        def gradient():
            both()
            return states.grad.float().cpu().numpy()

        both()  # compile now: a failure is this method's row
        return Calls(both, forward, gradient, None)

    return build


def _torch_eager(torch):
    cross_entropy = torch.nn.functional.cross_entropy
    return lambda s, c, label: cross_entropy(s @ c.T, label, reduction="sum")


def _torch_compiled(torch):
    torch._dynamo.reset()  # it would fall back to eager code after eight shapes
    return torch.compile(_torch_eager(torch), dynamic=False)


def _torch_linear(torch):
    loss = torch.nn.functional.linear_cross_entropy
    return lambda s, c, label: loss(s, c, label, reduction="sum")


def _cut_cross_entropy(torch):
    from cut_cross_entropy import linear_cross_entropy

    return lambda s, c, label: linear_cross_entropy(s, c, label, reduction="sum")


def _liger(torch):
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    loss = LigerFusedLinearCrossEntropyLoss(reduction="sum")
    return lambda s, c, label: loss(c, s, label)


METHODS = {
    OURS: Method(_jax(_ours), both_terms=True, arrays=0),
    "ours, −log p alone": Method(_jax(_ours_positive), both_terms=False, arrays=0),
    "ours, bf16 products": Method(_jax(_ours_bf16), both_terms=True, arrays=0),
    "ours, any cotangent": Method(_jax(_ours_any_cotangent), both_terms=True, arrays=0),
    "naive": Method(_jax(_naive), both_terms=True, arrays=3),
    "margin, autodiff": Method(_jax(_margin_autodiff), both_terms=True, arrays=2),
    "optax": Method(_jax(_optax), both_terms=False, arrays=2),
    "tokamax xla": Method(_tokamax("xla"), both_terms=False, arrays=2),
    "tokamax chunked": Method(_tokamax("chunked_xla"), both_terms=False, arrays=0),
    "torch eager": Method(_torch(_torch_eager), both_terms=False, arrays=2),
    "torch compiled": Method(_torch(_torch_compiled), both_terms=False, arrays=2),
    "torch linear_cross_entropy": Method(_torch(_torch_linear), both_terms=False, arrays=2),
    "Cut Cross-Entropy": Method(_torch(_cut_cross_entropy, True), both_terms=False, arrays=0),
    "Liger": Method(_torch(_liger, True), both_terms=False, arrays=0),
}
