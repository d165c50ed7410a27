"""Selection of the largest values of each user, and of the blocks of rows that may hold the best.

On CPUs, XLA's top-k keeps a heap for each user. It is spared most values here: bisection finds a
bound that enough values reach; those that reach it are marked in words of 32 bits, and the place of
the n-th mark is found by counting. Users are the minor axis, so that each step is one of whole
vectors. Accelerators sort.

Shapes: as in topk.py; N values of a user, T taken, S slots for what reaches the bound, M words,
L lines of 32 words.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from negflax.mesh import platform

GROUP = 16  # maxima behind one maximum of the second level
SURE = "promise_in_bounds"
_COARSE = 6  # groups, for each wanted block, among which a first bound is found
_BISECTIONS = 6  # of a user's values before a top-K of an accelerator
_WORD = 32
_HALVES = (16, 8, 4, 2, 1)
_SIGN = jnp.iinfo(jnp.int32).max  # all bits but the sign


def best_blocks(maxima_AR: jax.Array, group_GR: jax.Array, wanted: int, recall: float) -> jax.Array:
    """(R, W) blocks with the `wanted` largest maxima, in row order; of equal ones the first.

    W may be larger: then others follow up to a lower bound, and A, no block, where none is left.
    """
    if platform() == "cpu" and recall == 1:
        groups = group_GR if len(group_GR) >= 2 * wanted else maxima_AR
        fold = max(1, len(groups) // (_COARSE * wanted))
        coarse_NR = groups[: len(groups) // fold * fold].reshape(-1, fold, groups.shape[1])
        # As many blocks reach what so many groups reach, and few others do.
        return _first_places(maxima_AR, coarse_NR.max(axis=1), wanted).T
    if recall < 1:
        block_RW = lax.approx_max_k(maxima_AR.T, wanted, recall_target=recall)[1]
    elif len(group_GR) <= 2 * wanted:
        block_RW = top_k_of_scores(maxima_AR.T, wanted)[1]
    else:
        group_RW = jnp.sort(top_k_of_scores(group_GR.T, wanted)[1], axis=1)
        block_RWG = group_RW[:, :, None] * GROUP + jnp.arange(GROUP)
        block_RN = block_RWG.reshape(len(group_RW), -1)
        maxima_RN = maxima_AR[block_RN, jnp.arange(len(group_RW))[:, None]]
        place_RW = top_k_of_scores(maxima_RN, wanted)[1]
        block_RW = jnp.take_along_axis(block_RN, place_RW, axis=1)
    return jnp.sort(block_RW, axis=1)


def top_k_of_scores(values_RN: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """`lax.top_k`, exactly, in less time."""
    size = values_RN.shape[1]
    if platform() == "cpu" and size > 4 * k:
        padded_RN = jnp.pad(values_RN, ((0, 0), (0, -size % _WORD)), constant_values=-jnp.inf)
        place_SR = _first_places(padded_RN.T, padded_RN.T, k)
        place_RS = jnp.minimum(place_SR.T, size - 1)
        values_RS = jnp.take_along_axis(values_RN, place_RS, axis=1)
        values_RS = jnp.where(place_SR.T < size, values_RS, -jnp.inf)
        values_RT, slot_RT = lax.top_k(values_RS, k)
        return values_RT, jnp.take_along_axis(place_RS, slot_RT, axis=1)
    finite_RN = jnp.isfinite(values_RN)
    low_R1 = jnp.min(values_RN, axis=1, keepdims=True, where=finite_RN, initial=jnp.inf)
    high_R1 = values_RN.max(axis=1, keepdims=True)
    for _ in range(_BISECTIONS):
        middle_R1 = (low_R1 + high_R1) / 2
        enough_R1 = (values_RN >= middle_R1).sum(axis=1, keepdims=True) >= k
        low_R1 = jnp.where(enough_R1, middle_R1, low_R1)
        high_R1 = jnp.where(enough_R1, high_R1, middle_R1)
    return lax.top_k(jnp.where(values_RN >= low_R1, values_RN, -jnp.inf), k)


def _first_places(values_NR: jax.Array, coarse_NR: jax.Array, wanted: int) -> jax.Array:
    """(S, R) rising places of the `wanted` largest values and of some others, N where none is left.

    Of equal values the first are taken. `coarse_NR` are values, or maxima of disjoint sets of them.
    N is a multiple of 32.
    """
    size, room = len(values_NR), wanted + wanted // 4
    room += -room % 4  # blocks of 8 rows then fill whole words
    low_R, _ = _bounds(coarse_NR, wanted, wanted + wanted // 16)
    word_MR = _marks(values_NR >= low_R)
    fits = (lax.population_count(word_MR).sum(axis=0) <= room).all()

    def narrow() -> jax.Array:
        low_R, high_R = _bounds(values_NR, wanted, room)
        above_SR = _places(_marks(values_NR >= high_R), room, size)
        others_SR = _places(_marks((values_NR >= low_R) & (values_NR < high_R)), room, size)
        slot_SR = jnp.arange(room)[:, None] - (above_SR < size).sum(axis=0)
        others_SR = jnp.take_along_axis(others_SR, jnp.maximum(slot_SR, 0), axis=0)
        return jnp.sort(jnp.where(slot_SR < 0, above_SR, others_SR), axis=0)

    return lax.cond(fits, lambda: _places(word_MR, room, size), narrow)


def _bounds(values_NR: jax.Array, wanted: int, room: int) -> tuple[jax.Array, jax.Array]:
    """(low, high) of each user: `wanted` values or more reach low, and fewer reach high.

    No more than `room` reach low, unless nothing lies between low and high.
    """
    finite_NR = jnp.isfinite(values_NR)
    least_R = jnp.min(values_NR, axis=0, where=finite_NR, initial=jnp.inf)
    enough_R = finite_NR.sum(axis=0) >= wanted

    def reach(key_R: jax.Array) -> jax.Array:
        return (values_NR >= _value(key_R)).sum(axis=0)

    def undecided(found: tuple[jax.Array, ...]) -> jax.Array:
        low_R, high_R, reach_R = found
        return ((reach_R > room) & (low_R + 1 < high_R)).any()

    def halve(found: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        low_R, high_R, reach_R = found
        middle_R = (low_R & high_R) + ((low_R ^ high_R) >> 1)  # their sum might overflow
        new_R = reach(middle_R)
        up_R = new_R >= wanted
        return (
            jnp.where(up_R, middle_R, low_R),
            jnp.where(up_R, high_R, middle_R),
            jnp.where(up_R, new_R, reach_R),
        )

    # One key lower, as a float64 may have been rounded up.
    low_R = jnp.where(enough_R, _key(least_R) - 1, _key(jnp.float32(-jnp.inf)))
    high_R = _key(values_NR.max(axis=0)) + 1
    low_R, high_R, _ = lax.while_loop(undecided, halve, (low_R, high_R, reach(low_R)))
    return _value(low_R), _value(high_R)


def _key(values: jax.Array) -> jax.Array:
    """Integers in the order of the values."""
    bits = lax.bitcast_convert_type(values.astype(jnp.float32), jnp.int32)
    return jnp.where(bits < 0, bits ^ _SIGN, bits)


def _value(keys: jax.Array) -> jax.Array:
    """The value of a key."""
    return lax.bitcast_convert_type(jnp.where(keys < 0, keys ^ _SIGN, keys), jnp.float32)


def _marks(mark_NR: jax.Array) -> jax.Array:
    """(M, R) the marks as bits of words, M filled up to whole lines."""
    mark_MWR = mark_NR.reshape(-1, _WORD, mark_NR.shape[1])
    bit_W1 = jnp.left_shift(jnp.uint32(1), jnp.arange(_WORD, dtype=jnp.uint32))[:, None]
    word_MR = jnp.where(mark_MWR, bit_W1, jnp.uint32(0)).sum(axis=1, dtype=jnp.uint32)
    return jnp.pad(word_MR, ((0, -len(word_MR) % _WORD), (0, 0)))


def _places(word_MR: jax.Array, slots: int, none: int) -> jax.Array:
    """(S, R) places of the first S marks; `none` where there are fewer."""
    user_R = jnp.arange(word_MR.shape[1])
    marks_MR = lax.population_count(word_MR).astype(jnp.float32)
    marks_LWR = marks_MR.reshape(-1, _WORD, len(user_R))
    # A product with a triangle of ones is a running sum; counts up to S are exact in float32.
    within_LWR = jnp.einsum("vw,lwr->lvr", jnp.tri(_WORD), marks_LWR)
    upto_LR = jnp.cumsum(within_LWR[:, -1], axis=0)
    upto_MR = (within_LWR + (upto_LR - within_LWR[:, -1])[:, None]).reshape(word_MR.shape)
    # The line, the word and the bit of the n-th mark: those up to which no more than n − 1 are.
    before_S1 = jnp.arange(slots, dtype=jnp.float32)[:, None]
    line_SR = jnp.where(upto_LR <= before_S1[:, :, None], 1.0, 0.0).sum(axis=1).astype(jnp.int32)
    word_SR = jnp.minimum(line_SR, len(upto_LR) - 1) * _WORD
    for half in _HALVES:
        past_SR = upto_MR.at[word_SR + half - 1, user_R].get(mode=SURE) <= before_S1
        word_SR += jnp.where(past_SR, half, 0)
    upto_SR, marks_SR, bits_SR = (
        x_MR.at[word_SR, user_R].get(mode=SURE) for x_MR in (upto_MR, marks_MR, word_MR)
    )
    left_SR = (before_S1 - (upto_SR - marks_SR)).astype(jnp.uint32)
    bit_SR = jnp.zeros_like(left_SR)
    for half in _HALVES:
        marks_SR = lax.population_count((bits_SR >> bit_SR) & jnp.uint32((1 << half) - 1))
        past_SR = left_SR >= marks_SR
        left_SR -= jnp.where(past_SR, marks_SR, 0)
        bit_SR += jnp.where(past_SR, jnp.uint32(half), 0)
    return jnp.where(before_S1 < upto_LR[-1], word_SR * _WORD + bit_SR.astype(jnp.int32), none)
