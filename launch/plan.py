"""Estimates what a run will need: memory per device, collective traffic and time per step.

  python -m launch.plan --config=configs/kuairand.py --devices=8 --memory_gib=80
  python -m launch.plan --config=configs/event_log.py --devices=64 --memory_gib=80 \
    --items=1000000000 --config.batch.rows=1024 --platform=h200

The sizes of rows, slots, candidates and collectives are computed from the config. The temporary
memory of the step is read from the step compiled for that number of devices: of the chip that
--platform names, which need not be there but whose compiler must be installed (pip install
'negflax[aot]'), or of virtual CPU devices. Nothing is allocated. The catalogue is counted from the
data set unless --items is given. Times come from the peak rates of a device and are lower bounds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile

import jax
from absl import flags
from ml_collections import config_flags

from negflax.config import Config, ConfigError, from_config_dict
from negflax.data import build_sequences, open_source
from negflax.data.features import NUM_VALUES
from negflax.evaluate import format_table
from negflax.files import write_json
from negflax.mesh import make_mesh
from negflax.train import chips
from negflax.train import plan as planning

from . import flags as shared

CONFIG = config_flags.DEFINE_config_file("config", None, "One of configs/*.py.")
DEVICES = flags.DEFINE_integer("devices", 1, "Number of devices of the run.", lower_bound=1)
PLATFORM = flags.DEFINE_enum(
    "platform", "cpu", ["cpu", *chips.CHIPS], "Chip that the step is compiled for."
)
MEMORY = flags.DEFINE_float(
    "memory_gib", None, "Memory of one device, in GiB; the chip's by default, 80 for cpu."
)
ITEMS = flags.DEFINE_integer("items", 0, "Size of the catalogue; 0: count it in the data set.")
CREATORS = flags.DEFINE_integer("creators", 0, "With --items: number of creators.")
CLUSTERS = flags.DEFINE_integer("clusters", 0, "With --items: number of clusters.")
VECTOR_WIDTH = flags.DEFINE_integer("vector_width", 0, "With --items: of given item vectors.")
# By default those of the chip's data sheet (negflax/train/chips.py), for cpu one H200's.
TFLOPS = flags.DEFINE_float("tflops", None, "Peak compute of a device, 10^12 FLOP per second.")
MEMORY_GBPS = flags.DEFINE_float(
    "memory_gbps", None, "Memory bandwidth of a device, 10^9 bytes per second."
)
LINK_GBPS = flags.DEFINE_float("link_gbps", None, "Between devices, 10^9 bytes per second.")
LATENCY_US = flags.DEFINE_float("latency_us", 10.0, "Latency of a collective, microseconds.")


def sizes_of(config: Config) -> planning.Sizes:
    """Returns the table sizes that the flags describe, or those of the data set."""
    if ITEMS.value:
        named = {"creator": CREATORS.value + 1, "cluster": CLUSTERS.value + 1}
        rows = ITEMS.value + 1 + config.data.reserved_items + config.data.hash_buckets
        return planning.Sizes(rows, NUM_VALUES | named, vector_width=VECTOR_WIDTH.value)
    with tempfile.TemporaryDirectory() as folder:
        catalogue = build_sequences(open_source(config, folder), config).catalogue
    return planning.Sizes.of(catalogue)


def virtual_devices(number: int) -> list[jax.Device]:
    """Returns that many CPU devices; has to be called before JAX starts its backend.

    Raises:
      ConfigError: JAX has already started with fewer devices.
    """
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", number)
    if jax.device_count("cpu") < number:
        raise ConfigError(
            f"--devices={number}: JAX has already started with fewer devices; run the planner in "
            "its own process"
        )
    return jax.local_devices(backend="cpu")[:number]


def machine_of(config: Config) -> planning.Machine:
    """Returns the rates of a device: those that flags give, else the chip's for these products."""
    chip = chips.CHIPS["h200" if PLATFORM.value == "cpu" else PLATFORM.value]
    share = 1 if config.model.precision != "float32" else chip.float32_share
    return planning.Machine(
        (TFLOPS.value or chip.tflops * share) * 1e12,
        (MEMORY_GBPS.value or chip.memory_gbps) * 1e9,
        (LINK_GBPS.value or chip.link_gbps) * 1e9,
        LATENCY_US.value * 1e-6,
    )


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    config = from_config_dict(CONFIG.value)
    on_cpu, number = PLATFORM.value == "cpu", DEVICES.value
    devices = virtual_devices(number if on_cpu else 1)
    mesh = make_mesh(config.mesh, devices if on_cpu else chips.absent(PLATFORM.value, number))
    machine = machine_of(config)
    sizes = sizes_of(config)
    plan = planning.make_plan(config, sizes, mesh, machine)
    memory = MEMORY.value or (80.0 if on_cpu else chips.CHIPS[PLATFORM.value].memory_gib)
    limit = int(memory * planning.GIB)
    print(
        f"{sizes.num_rows - 1:,} rows, {number} device(s), compiled for {PLATFORM.value}; "
        "estimates per device\n"
    )
    print(report(plan))
    advice = plan.too_large(limit)
    print(f"\nfits into {memory:g} GiB" if not advice else f"\ndoes not fit into {memory:g} GiB:")
    for part, keys in advice.items():
        print(f"  {part}, {plan.memory[part] / planning.GIB:.3f} GiB: {keys}")
    if shared.JSON.value:
        write_json(shared.JSON.value, figures(plan) | {"fits": not advice, "advice": advice})


def report(plan: planning.Plan) -> str:
    """Returns three tables as text: memory, collectives, times."""
    memory = [{"memory": part, "GiB": _gib(size)} for part, size in plan.memory.items()]
    memory.append({"memory": "peak", "GiB": _gib(plan.peak)})
    memory.append({"memory": "checkpoint, on the host", "GiB": _gib(plan.checkpoint_bytes)})
    moved = [
        {"collective": what, "of": of, "MB a step": round(size / 1e6, 3)}
        for (of, what), size in plan.collectives.items()
    ]
    times = [{"step": part, "ms": round(1e3 * value, 3)} for part, value in plan.seconds.items()]
    return "\n\n".join(map(format_table, (memory, moved, times)))


def figures(plan: planning.Plan) -> dict[str, object]:
    """Returns the plan as written by --json, in bytes and seconds."""
    values = dataclasses.asdict(plan)
    values["collectives"] = {f"{of}/{what}": size for (of, what), size in plan.collectives.items()}
    return {"devices": DEVICES.value, "platform": PLATFORM.value, "peak": plan.peak} | values


def _gib(size: int) -> float:
    return size / planning.GIB


if __name__ == "__main__":
    flags.mark_flags_as_required(["config"])
    shared.run(main)
