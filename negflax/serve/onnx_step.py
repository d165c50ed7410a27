"""The encoder's step as ONNX, by jax2onnx, for services without jax.

    step.onnx    codes (1, F) int32, carry_0, carry_1, … → state (1, D), next_0, next_1, …
    start.npz    state (D,) and carry_0, carry_1, … of a user without events

A history is read event by event from the start. The weights are inside step.onnx.

Shapes: F codes of an event, D width.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from negflax.config import ConfigError
from negflax.files import write_arrays
from negflax.serve.one_event import CODES

if TYPE_CHECKING:
    from negflax.serve.export import Programs
    from negflax.serve.trained import TrainedRecommender

STEP, START = "step.onnx", "start.npz"
LARGEST = 2**31 - 2**20  # bytes; a protobuf message is below 2 GiB
_SAME = 1e-5  # of what jax and onnxruntime give


def require_onnx(recommender: TrainedRecommender) -> tuple[Any, Any]:
    """(jax2onnx, onnxruntime), or an error before anything is written.

    Raises:
      ConfigError: jax2onnx or onnxruntime is not installed, or the encoder cannot go on from a
        state.
    """
    try:
        import jax2onnx
        import onnxruntime
    except ImportError as error:
        raise ConfigError("--onnx needs jax2onnx: pip install 'negflax[onnx]'") from error
    if not recommender.encoding.goes_on:
        raise ConfigError("--onnx: this encoder cannot read one event more from its state")
    return jax2onnx, onnxruntime


def write_onnx(out: Path, programs: Programs, recommender: TrainedRecommender) -> list[str]:
    """Writes both files, after a few events were read alike by jax and by onnxruntime.

    Returns:
      Their names.

    Raises:
      ConfigError: see `require_onnx`; the weights are too large for ONNX, or the states differ.
    """
    jax2onnx, onnxruntime = require_onnx(recommender)
    size = sum(x.nbytes for x in programs.weights.values())
    if size > LARGEST:
        raise ConfigError(f"--onnx: the weights have {size:,} bytes; an ONNX file holds 2 GiB")
    weights = jax.tree.map(jnp.asarray, programs.weights)
    newcomer = jax.tree.map(np.asarray, recommender.encoding.newcomer)
    start = jax.tree.leaves(newcomer.last)

    def step(codes_1F: jax.Array, *carry: jax.Array) -> tuple[jax.Array, ...]:
        with jax.disable_jit():  # a scan of one step becomes the step: ONNX needs no loop
            state_1D, following = programs.step(weights, codes_1F, carry)
        return state_1D, *following

    codes_1F = np.zeros((1, len(CODES)), np.int32)
    numbers = range(len(start))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # jax2onnx asks jax for float64
        converted = jax2onnx.to_onnx(
            step,
            [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (codes_1F, *start)],
            model_name="step",
            input_names=["codes", *(f"carry_{i}" for i in numbers)],
            output_names=["state", *(f"next_{i}" for i in numbers)],
        ).SerializeToString()
    session = onnxruntime.InferenceSession(converted, providers=["CPUExecutionProvider"])
    _compare(step, session, start, recommender.trained.catalogue.num_rows)
    (out / STEP).write_bytes(converted)
    carry = {f"carry_{i}": x for i, x in enumerate(start)}
    write_arrays(out / START, {"state": newcomer.state_1D[0].astype(np.float32)} | carry)
    return [STEP, START]


def _compare(step: Any, session: Any, start: list[np.ndarray], rows: int) -> None:
    """Reads three events by both; raises a ConfigError where they differ."""
    function, ours, theirs = jax.jit(step), start, start
    names = [one.name for one in session.get_inputs()]
    for i in range(3):
        codes_1F = np.zeros((1, len(CODES)), np.int32)
        codes_1F[0, 0], codes_1F[0, CODES.index("dislike")] = 1 + i % (rows - 1), i % 3
        state_1D, *ours = map(np.asarray, function(codes_1F, *ours))
        found_1D, *theirs = session.run(None, dict(zip(names, [codes_1F, *theirs], strict=True)))
        differs = float(np.abs(state_1D - found_1D).max())
        if not differs <= _SAME * max(1.0, float(np.abs(state_1D).max())):
            raise ConfigError(
                f"--onnx: after {i + 1} events the state of onnxruntime differs by {differs:.2g} "
                "from that of jax: export without --onnx"
            )
