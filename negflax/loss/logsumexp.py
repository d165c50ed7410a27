"""The masked log-sum-exp over candidates: contract and dispatch.

lse_n = log Σ_{j ∈ Ω_n} exp(s_n·c_j + bias_j), Ω_n the valid candidates that are not labels of state
n (docs/method.md §2). Both terms of the objective need nothing else of the N × S logits, and no
implementation that `auto` may choose stores them.

Shapes: N states, S candidates, L labels a state, D embedding width.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from negflax.loss.kernels import xla
from negflax.loss.masks import fold_masks
from negflax.mesh import platform

BLOCK_ELEMENTS = 8_000_000  # logits alive at a time where the caller names no budget
IMPLEMENTATIONS = ("auto", "xla", "mosaic_gpu", "mosaic_tpu")
# What `auto` is. A kernel takes its platform's place once it has run there (docs/accelerators.md).
AUTO = {"cpu": "xla", "gpu": "xla", "tpu": "xla"}
RUNS_ON = {"mosaic_gpu": "gpu", "mosaic_tpu": "tpu"}  # the kernels' platforms


class CandidateSet(NamedTuple):
    """The candidates that all states share.

    Attributes:
      vectors_SD: their vectors, of the states' dtype.
      bias_S: item bias − log q, added to each candidate's logit; −inf masks the candidate.
      ids_S: their rows, integers.
    """

    vectors_SD: jax.Array
    bias_S: jax.Array
    ids_S: jax.Array


@dataclasses.dataclass(frozen=True)
class KernelOptions:
    """How the log-sum-exp is computed; no result depends on it beyond rounding.

    Attributes:
      impl: `xla` runs anywhere. `mosaic_gpu` (Hopper, 16-bit products) and `mosaic_tpu` are Pallas
        kernels that were checked in interpreters and compiled, but have not run on a device:
        `auto`, the platform's choice in `AUTO`, is `xla` until they have (docs/accelerators.md).
      block_elements: budget for the logits alive at a time, in elements.
      split_over: mesh axes over which the candidates are split, inside shard_map: each device has
        other candidates and other states. States are gathered, not candidates.
      precision: `float32`: products of the operands as they are. `bfloat16`: the operands of
        products are rounded to bfloat16; sums, log-sum-exps and gradients stay float32.
    """

    impl: str = "auto"
    block_elements: int = BLOCK_ELEMENTS
    split_over: tuple[str, ...] = ()
    precision: Literal["float32", "bfloat16"] = "float32"

    @property
    def product_dtype(self) -> str | None:
        """What the operands of products are rounded to; None leaves them as they are."""
        return "bfloat16" if self.precision == "bfloat16" else None

    def is_split(self) -> bool:
        """Whether other devices hold other candidates; inside shard_map."""
        return bool(self.split_over) and lax.axis_size(self.split_over) > 1


DEFAULTS = KernelOptions()


def candidate_logsumexp(
    states_ND: jax.Array,
    candidates_SD: jax.Array,
    *,
    bias_S: ArrayLike | None = None,
    candidate_ids_S: ArrayLike | None = None,
    exclude_ids_NL: ArrayLike | None = None,
    valid_S: ArrayLike | None = None,
    options: KernelOptions = DEFAULTS,
) -> jax.Array:
    """Log-sum-exp of each state's logits over its candidates, without an N × S array.

    Differentiable in states, candidates and bias for any cotangent. Partial results over disjoint
    candidate sets combine by `jnp.logaddexp`; inside shard_map `label_logsumexp` combines those of
    the mesh.

    Args:
      states_ND: user states, floating.
      candidates_SD: candidate vectors, same dtype.
      bias_S: added to each candidate's logit: −log q, item bias. −inf removes the candidate.
      candidate_ids_S: integer ids, needed with `exclude_ids_NL`.
      exclude_ids_NL: ids each state leaves out (its labels); pad with −1.
      valid_S: False removes a candidate for every state (padding rows).
      options: implementation and memory. These candidates alone are summed over, whatever
        `options.split_over` says.

    Returns:
      (N,) in float32 (float64 for float64 states); −inf, with zero gradients, where a state has no
      candidate left.

    Raises:
      ValueError: shapes disagree, ids are missing or not integers, `options.impl` is unknown, or
        it is a kernel that does not take these operands.
    """
    impl = implementation(options.impl)
    bias_S, ids_S, exclude_NL = fold_masks(
        states_ND, candidates_SD, bias_S, candidate_ids_S, exclude_ids_NL, valid_S
    )
    arguments = states_ND, candidates_SD, bias_S, ids_S, exclude_NL
    if impl == "mosaic_gpu":
        from negflax.loss.kernels import mosaic_gpu

        return mosaic_gpu.logsumexp(*arguments, options.product_dtype)
    if impl == "mosaic_tpu":
        from negflax.loss.kernels import mosaic_tpu

        return mosaic_tpu.logsumexp(*arguments, options.product_dtype)
    return xla.logsumexp(*arguments, options.block_elements, options.product_dtype)


def label_logsumexp(
    states_ND: jax.Array,
    candidates: CandidateSet,
    label_ids_NL: jax.Array,
    options: KernelOptions = DEFAULTS,
) -> jax.Array:
    """(N,) log-sum-exps over the candidates that are no labels of their state.

    Where the candidates are split, every device sums over its own candidates for everyone's states,
    and the parts are combined.

    Args:
      states_ND: user states.
      candidates: what is summed over.
      label_ids_NL: rows of the labels, −1 where absent.
      options: how.
    """

    def lse(states_ND: jax.Array, label_ids_NL: jax.Array) -> jax.Array:
        return candidate_logsumexp(
            states_ND,
            candidates.vectors_SD,
            bias_S=candidates.bias_S,
            candidate_ids_S=candidates.ids_S,
            exclude_ids_NL=label_ids_NL,
            options=options,
        )

    if not options.is_split():
        return lse(states_ND, label_ids_NL)
    axes, n = options.split_over, len(states_ND)
    everyones = lax.all_gather((states_ND, label_ids_NL), axes, tiled=True)
    combined = combine_over(lse(*everyones), axes)
    return lax.dynamic_slice_in_dim(combined, lax.axis_index(axes) * n, n)


def implementation(impl: str) -> str:
    """The implementation that `impl` names on this platform.

    Raises:
      ValueError: there is none of that name.
    """
    if impl not in IMPLEMENTATIONS:
        raise ValueError(f"impl={impl!r}: choose from {', '.join(IMPLEMENTATIONS)}")
    return AUTO.get(platform(), "xla") if impl == "auto" else impl


def combine_over(lse_N: jax.Array, axes: str | tuple[str, ...]) -> jax.Array:
    """Log-sum-exp of partial results over mesh axes, inside shard_map, by one small collective.

    A full softmax over a row-sharded table is `candidate_logsumexp` on each device's rows and this.

    Args:
      lse_N: this device's partial results, over its own candidates; −inf where it has none.
      axes: mesh axes over which the candidates are split.

    Returns:
      (N,) the same on every device; −inf, without gradient, where no device has a candidate.
    """
    top_N = lax.pmax(lax.stop_gradient(lse_N), axes)
    none = jnp.isneginf(top_N)
    total_N = lax.psum(jnp.exp(lse_N - jnp.where(none, 0, top_N)), axes)
    return jnp.where(none, -jnp.inf, top_N + jnp.log(jnp.where(none, 1, total_N)))
