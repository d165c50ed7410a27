"""A block of states against all candidates in one pass on TPUs (Pallas Mosaic).

Where the loss is known, `one_pass.py` walks over blocks of states, and this kernel does what XLA
would do in a block. One product gives the block's logits, which leave the kernel as weights
exp(logit − bound), after they were summed and multiplied with the candidates. What is left is one
product, of weights and states, once the loss has given the cotangents: 6·N·S·D operations, where
`mosaic_tpu.py`, which computes the logits twice, takes 8. The weights stay in VMEM between the two
where they fit. Shapes: as in `tiles_tpu.py`; `b` marks a block of states.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from negflax.loss.kernels import tiles_tpu
from negflax.loss.kernels.tiles_tpu import LANES, columns, dot, row

WHOLE = 512  # states of a block that fill a tile
MOST = 4096  # states of a block: more are no faster


def block_states(states: int, candidates: int, dtype: jnp.dtype, block_elements: int) -> int:
    """States in a block, in the memory that XLA takes for so many logits, 6 bytes each.

    Of the kernel's logits only the weights are in memory.
    """
    budget = 6 * block_elements // jnp.dtype(dtype).itemsize
    fit = max(1, min(states, MOST, budget // max(1, candidates)))
    return fit if fit < WHOLE else fit // WHOLE * WHOLE


def weigher(
    candidates_SD: jax.Array, bias_S: jax.Array, ids_S: jax.Array, labels: int, block: int
) -> Callable[..., tuple[jax.Array, jax.Array, jax.Array]]:
    """What gives the weights of one block of states after another.

    Args:
      candidates_SD: float32 or bfloat16.
      bias_S: float32; −inf removes the candidate.
      ids_S: integers of up to 64 bits.
      labels: L, ids that a state leaves out.
      block: b, states of a block.

    Returns:
      (states_bD of the candidates' dtype, exclude_bL of the ids' dtype, float32 bound_b, at least
      the largest logit) → weights exp(logit − bound) (S, b), of the same dtype and 0 where a
      candidate is left out; Σ weight · candidate (D, b) and Σ weight (b,) in float32.

    Raises:
      ValueError: candidates are neither float32 nor bfloat16.
    """
    s, d = candidates_SD.shape
    like_bD = jax.ShapeDtypeStruct((block, d), candidates_SD.dtype)
    like_bL = jax.ShapeDtypeStruct((block, labels), ids_S.dtype)
    tile_n, tile_s = tiles_tpu.tiles(like_bD, candidates_SD, like_bL, kept=True)
    candidates = tiles_tpu.candidates(candidates_SD, bias_S, ids_S, like_bL, tile_s)

    def weigh(states_bD: jax.Array, exclude_bL: jax.Array, bound_b: jax.Array):
        states = tiles_tpu.states(states_bD, exclude_bL, ids_S, tile_n)
        bound = tiles_tpu.pad(bound_b[None], 1, tile_n, jnp.inf)
        outputs = states[0].shape, (1, len(states[0]))
        label_columns = tiles_tpu.round_up(len(states[1]), LANES)
        scratch = (1, jnp.float32), (LANES, jnp.float32), (label_columns, jnp.int32)
        sums, total, weights = tiles_tpu.call(
            _block_kernel,
            (tile_n, tile_s),
            (*states, bound),
            candidates,
            outputs,
            scratch,
            kept=states_bD.dtype,
        )
        return weights[:block, :s].T, sums[:block, :d].T, total[0, :block]

    return weigh


def _block_kernel(
    states_ref,
    exclude_ref,
    bound_ref,
    candidates_ref,
    bias_ref,
    ids_ref,
    sums_ref,
    total_row_ref,
    weights_ref,
    total_ref,
    bound_columns_ref,
    exclude_columns_ref,
):
    @pl.when(pl.program_id(1) == 0)
    def _start():
        sums_ref[...] = jnp.zeros_like(sums_ref)
        total_ref[...] = jnp.zeros_like(total_ref)
        bound_columns_ref[...] = columns(bound_ref[...])
        exclude_columns_ref[...] = columns(exclude_ref[...])

    candidates = candidates_ref[...]
    excluded = tiles_tpu.excluded(
        [ids_ref[i : i + 1, :] for i in range(len(ids_ref))],
        (exclude_columns_ref[:, i : i + 1] for i in range(len(exclude_ref))),
    )
    logits = dot(states_ref[...], candidates, (1, 1)) + bias_ref[...]
    below = jnp.where(excluded, -jnp.inf, logits - bound_columns_ref[:, :1])
    weights = jnp.exp(below)
    narrow = weights.astype(candidates.dtype)
    weights_ref[...] = narrow
    total_ref[...] += jnp.sum(weights, axis=1, keepdims=True)
    sums_ref[...] += dot(narrow, candidates, (1, 0))

    @pl.when(pl.program_id(1) == pl.num_programs(1) - 1)
    def _finish():
        total_row_ref[...] = row(total_ref[...])
