"""Experiments on simulated users.

  python -m launch.simulate calibrate

prints the simulated log beside a real one (kuairand-pure-mini under $NEGFLAX_DATA_DIR), and its
dislike rate as asked for and as found.
"""

from __future__ import annotations

import dataclasses
import tempfile

from launch import flags as shared
from negflax.config import Config, ConfigError, DataConfig
from negflax.data import open_source
from negflax.evaluate import format_table
from negflax.files import write_json
from negflax.simulate import calibration

DISLIKE_RATES = (0.001, 0.01, 0.02, 0.05, 0.07)


def calibrate() -> None:
    """Real beside simulated, and the curve of dislike rates."""
    with tempfile.TemporaryDirectory() as folder:
        real = open_source(Config(data=DataConfig(source="kuairand_mini")), folder)
        world = open_source(Config(), folder)
        rows = calibration.compare(*map(calibration.describe, (real, world)))
        print(format_table(rows))
        curve = []
        for rate in DISLIKE_RATES:
            config = dataclasses.replace(Config().world, dislike_rate=rate)
            events = open_source(Config(world=config), folder).events
            curve.append(
                {"dislike_rate": rate, "found": float(events["dislike"].to_numpy().mean())}
            )
        print(f"\n{format_table(curve)}")
    if shared.JSON.value:
        write_json(shared.JSON.value, {"calibration": rows, "dislike_curve": curve})


COMMANDS = {"calibrate": calibrate}


def main(argv: list[str]) -> None:
    """See the module."""
    if len(argv) != 2 or argv[1] not in COMMANDS:
        raise ConfigError(f"python -m launch.simulate {'|'.join(COMMANDS)}: say which")
    COMMANDS[argv[1]]()


if __name__ == "__main__":
    shared.run(main)
