"""Trains a run, or resumes it, and evaluates the result on the test period.

  python -m launch.train --config=configs/synthetic.py --workdir=runs/synthetic

Any setting can be changed on the command line, as in --config.loss.omega=1.0. To resume a run that
was interrupted, repeat its command: it continues from the newest checkpoint. --init_from=FOLDER
starts from the best checkpoint of another run. The catalogues may differ: rows are matched by item
id. With config.data.reserved_items above 0, new items are added to the old catalogue, whose items
keep their rows.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

from absl import flags
from ml_collections import config_flags

import negflax
from negflax.config import from_config_dict
from negflax.evaluate import evaluation
from negflax.files import write_json
from negflax.fitting import accept_change
from negflax.processes import from_first

from . import flags as shared

CONFIG = config_flags.DEFINE_config_file("config", None, "One of configs/*.py.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run: checkpoints, metrics, report.")
INIT_FROM = flags.DEFINE_string(
    "init_from", "", "Folder of a run whose parameters to start from (warm start)."
)
RESUME_FROM = flags.DEFINE_string(
    "resume_from", "", "Folder of a run with the same config to go on with, if --workdir has none."
)
ACCEPT_CHANGE = flags.DEFINE_boolean(
    "accept_config_change", False, "Go on with a run although its config was another one."
)
TEST = flags.DEFINE_boolean("test", True, "Evaluate on the test period after training.")


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    shared.start(WORKDIR.value)
    if ACCEPT_CHANGE.value:
        accept_change(from_config_dict(CONFIG.value), Path(WORKDIR.value))
    run = negflax.fit(
        None,
        CONFIG.value,
        WORKDIR.value,
        init_from=INIT_FROM.value,
        resume_from=RESUME_FROM.value,
        test=TEST.value,
    )
    metrics = run.metrics
    if run.result is not None:
        print(evaluation.result_table(run.result, run.config.eval.ks))
        print(f"report: {run.workdir / 'report.html'}")
    if metrics["targets_per_cpu_second"]:  # 0 if the run had already finished training
        print(f"{metrics['targets_per_cpu_second']:,.0f} targets per CPU second")
    if run.result is not None:
        if said := metrics.get("dislike/change"):
            print(textwrap.fill(said, 100))
        print(evaluation.verdict_text(run.result))
    if shared.JSON.value:
        from_first(lambda: write_json(shared.JSON.value, metrics))


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    shared.run(main, several=True, trains=True)
