"""Programs compiled for chips that are not there, and what the tests read from them."""

import dataclasses
import functools
import math
import re

import jax
import numpy as np
import pytest

from negflax.config import Config
from negflax.data.features import NUM_VALUES
from negflax.mesh import make_mesh
from negflax.model import Recommender
from negflax.train import chips
from negflax.train import plan as planning
from negflax.train.checkpoint import abstract_state
from negflax.train.step import Trainer

CHIPS = ("tpu_v5e", "h200")
SMALL = {
    "batch": {"rows": 8, "length": 4},
    "loss": {"candidates": "uniform", "num_candidates": 64},
}
BYTES = {"f64": 8, "s64": 8, "f32": 4, "s32": 4, "u32": 4, "bf16": 2, "u16": 2, "f16": 2, "s8": 1}


def devices(chip, number):
    """Absent devices; the test is skipped where their compiler is not installed."""
    if said := chips.missing(chip):
        pytest.skip(said)
    return chips.absent(chip, number)


def config_of(**sections):
    """The default config with fields of sections replaced."""
    merged = {name: SMALL.get(name, {}) | sections.get(name, {}) for name in {*SMALL, *sections}}
    config = Config()
    new = {k: dataclasses.replace(getattr(config, k), **v) for k, v in merged.items()}
    return dataclasses.replace(config, **new)


def sizes_of(items):
    return planning.Sizes(items + 1, dict(NUM_VALUES))


@dataclasses.dataclass(frozen=True)
class Step:
    """A compiled training step of some devices.

    Attributes:
      text: of the program of one device.
      memory: of memory_analysis.
      shard_bytes: of the item table's rows on one device, without padding.
      state_bytes: of the state on one device.
    """

    text: str
    memory: object
    shard_bytes: float
    state_bytes: float

    def operations(self):
        """(operation, bytes of its result) of every line."""
        for shapes, operation in re.findall(r" = (\(?\w+\[.*?) ([a-z][\w-]*)\(", self.text):
            found = re.findall(r"(\w+)\[([\d,]*)\]", shapes)
            yield (
                operation,
                max(
                    BYTES.get(kind, 1) * math.prod(map(int, filter(None, shape.split(","))))
                    for kind, shape in found
                ),
            )


def step(chip, items, number=8, **sections):
    """The step of a config; see `config_of`."""
    return _step(chip, items, number, config_of(**sections))


@functools.lru_cache(maxsize=64)
def _step(chip, items, number, config):
    mesh = make_mesh(config.mesh, devices(chip, number))
    trainer = Trainer(config, Recommender(config.model, sizes_of(items)), np.ones(9), 1, mesh)
    state = abstract_state(jax.eval_shape(trainer.init), trainer.shardings)
    program = trainer.lower(state, planning.abstract_batch(config, mesh)).compile()
    item = 2 if config.optimizer.table_dtype == "bfloat16" else 4
    width = config.model.embedding + config.model.item_bias
    split = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state["tables"])) / number
    rest = {k: v for k, v in state.items() if k != "tables"}
    copied = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(rest))
    return Step(
        program.as_text(), program.memory_analysis(), items * width * item / number, split + copied
    )
