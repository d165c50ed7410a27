"""Evaluates a checkpoint: full-catalogue ranking beside random, popularity and Markov floors.

  python -m launch.evaluate --workdir=runs/synthetic --checkpoint=best

Needs nothing but the run's folder (and its data set); runs on any number of devices.
"""

from __future__ import annotations

from pathlib import Path

import jax
from absl import flags

from launch import flags as shared
from negflax.config import MeshConfig
from negflax.evaluate import run
from negflax.files import write_json
from negflax.mesh import make_mesh
from negflax.train.restore import load_trained

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "latest, best or a step.")
SPLIT = flags.DEFINE_enum("split", "test", ["valid", "test"], "Period to score.")
HTML = flags.DEFINE_string("html", "", "The page; default <workdir>/evaluation-<split>.html.")


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    workdir, split = Path(WORKDIR.value), SPLIT.value
    shared.start(workdir)
    trained = load_trained(workdir, CHECKPOINT.value, make_mesh(MeshConfig(), jax.devices()))
    result = run.evaluate_trained(trained, split, workdir)
    page = Path(HTML.value or workdir / f"evaluation-{split}.html")
    print(run.result_table(result, trained.config.eval.ks))
    print(f"page: {run.write_page(page, trained, result, split, workdir)}")
    write_json(
        shared.JSON.value or workdir / f"evaluation-{split}.json",
        {"step": trained.step} | result.metrics,
    )


if __name__ == "__main__":
    flags.mark_flags_as_required(["workdir"])
    shared.run(main)
