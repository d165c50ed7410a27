"""The time of a step by a roofline, for a plan (plan.py)."""

from __future__ import annotations

from typing import NamedTuple

from negflax.config import Config
from negflax.train import traffic


class Machine(NamedTuple):
    """One device, for the time of a step: peak rates, none of which a real step reaches.

    Attributes:
      flops: a second.
      memory_bytes: a second, of its own memory.
      link_bytes: a second, to other devices.
      latency: seconds until a collective starts to move.
    """

    flops: float
    memory_bytes: float
    link_bytes: float
    latency: float


def step_seconds(
    config: Config,
    memory: dict[str, int],
    collectives: dict[tuple[str, str], float],
    lookups: dict[str, traffic.Lookup],
    devices: int,
    machine: Machine,
) -> dict[str, float]:
    """A roofline: products, memory traffic and messages one after the other."""
    states = config.batch.rows * config.batch.length // devices
    model = config.model
    scored = lookups["item" if model.tied else "output"].scored
    if config.loss.candidates == "full":  # everyone's states with this device's rows
        scored *= devices
    inputs = model.embedding + model.feature_dim * len(model.features)
    encoder = 3 * 2 * 3 * states * model.hidden * (inputs + model.hidden)
    loss = 6 * states * scored * model.embedding
    touched = memory["candidates"] + memory["looked-up rows"]
    # Activations and touched rows are written and read about twice, forward and back.
    moved = 4 * (memory["activations"] + touched + memory["dense"])
    seconds = {
        "compute": (encoder + loss) / machine.flops,
        "memory": moved / machine.memory_bytes,
        "collectives": sum(collectives.values()) / machine.link_bytes
        + (len(collectives) * machine.latency if devices > 1 else 0),
    }
    return seconds | {"step": sum(seconds.values())}
