"""Exports a trained run: files that serve without negflax.

  python -m launch.export --workdir=runs/mine --out=exported

Programs of the encoder for jax, and with --onnx for onnxruntime, item vectors as Parquet, rules and
vocabulary as JSON, an index for faiss, and a report (docs/serving.md).
"""

from __future__ import annotations

from absl import flags

import negflax
from negflax.evaluate import format_table
from negflax.files import write_json
from negflax.serve.export import write_export
from negflax.serve.export_format import PLATFORMS

from . import flags as shared

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "best", "Which checkpoint: latest, best or a step number."
)
OUT = flags.DEFINE_string("out", None, "Folder to write to.")
PLATFORM = flags.DEFINE_list("platforms", list(PLATFORMS), "Platforms of the programs.")
INDEX = flags.DEFINE_boolean("index", True, "Write an index; needs pip install 'negflax[serve]'.")
ONNX = flags.DEFINE_boolean("onnx", False, "Write ONNX too; needs pip install 'negflax[onnx]'.")


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    shared.start(WORKDIR.value)
    run = negflax.load(WORKDIR.value, CHECKPOINT.value)
    report = write_export(
        run.recommender,
        OUT.value,
        platforms=tuple(PLATFORM.value),
        index=INDEX.value,
        onnx=ONNX.value,
    )
    figures = report.get("index", {}) | {
        "step": run.trained.step,
        "items": run.catalogue.num_rows - 1,
    }
    print(format_table([{"figure": name, "value": value} for name, value in figures.items()]))
    print(f"wrote the model of step {run.trained.step} to {OUT.value}")
    if shared.JSON.value:
        write_json(shared.JSON.value, figures)


if __name__ == "__main__":
    flags.mark_flags_as_required(["workdir", "out"])
    shared.run(main)
