"""A block of states against all candidates in one pass on TPUs (Pallas Mosaic).

Where the loss is known, `one_pass.py` walks over blocks of states, and this kernel does what XLA
would do in a block. One product gives the block's logits, which leave the kernel as weights
exp(logit − bound), after they were summed and multiplied with the candidates. What is left is one
product, of weights and states, once the loss has given the cotangents: 6·N·S·D operations, where
`mosaic_tpu.py`, which computes the logits twice, takes 8. The weights stay in VMEM between the two
where they fit. Shapes: as in `tiles_tpu.py`; `b` marks a block of states.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from negflax.loss.kernels import tiles_tpu
from negflax.loss.kernels.tiles_tpu import LANES, columns, dot, row

WHOLE = 256  # states of a block that fill two tiles


def whole(states: int) -> int:
    """So many states or fewer, which fill their tiles."""
    return states if states < WHOLE else states // WHOLE * WHOLE


def weigh(
    states_bD: jax.Array,
    candidates_SD: jax.Array,
    bias_S: jax.Array,
    ids_S: jax.Array,
    exclude_bL: jax.Array,
    bound_b: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Weights exp(logit − bound), Σ weight · candidate and Σ weight.

    Args:
      states_bD: float32 or bfloat16.
      candidates_SD: same dtype.
      bias_S: float32; −inf removes the candidate.
      ids_S: integers of up to 64 bits.
      exclude_bL: ids that a state leaves out.
      bound_b: float32, at least the state's largest logit.

    Returns:
      (S, b) of the states' dtype, 0 where a candidate is left out; (D, b) and (b,) in float32.

    Raises:
      ValueError: states or candidates are neither float32 nor bfloat16.
    """
    n, s, d = len(states_bD), *candidates_SD.shape
    tile_n, tile_s = tiles_tpu.tiles(states_bD, candidates_SD, exclude_bL, kept=True)
    states = tiles_tpu.states(states_bD, exclude_bL, ids_S, tile_n)
    bound = tiles_tpu.pad(bound_b[None], 1, tile_n, jnp.inf)
    candidates = tiles_tpu.candidates(candidates_SD, bias_S, ids_S, exclude_bL, tile_s)
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
        states_bD.dtype,
    )
    return weights[:n, :s].T, sums[:n, :d].T, total[0, :n]


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
