"""Shows how a config interprets its data, and warns of leaks and uninformative signals.

  python -m launch.inspect_data --config=configs/synthetic.py --html=inspect.html

It prints sizes, densities, periods, label counts, conflicting labels, nulls, dwell times, watch
ratios and the strata of the held-out negatives. It trains nothing.
"""

from __future__ import annotations

import contextlib
import tempfile

from absl import flags
from ml_collections import config_flags

from negflax.config import from_config_dict
from negflax.data import open_source
from negflax.data.inspect.figures import inspect_data, open_inspected
from negflax.data.inspect.findings import check_data
from negflax.evaluate import format_table
from negflax.evaluate.report import data_page
from negflax.files import write_json

from . import flags as shared

CONFIG = config_flags.DEFINE_config_file("config", None, "One of configs/*.py.")
WORKDIR = flags.DEFINE_string("workdir", "", "Folder of a run, to inspect its synthetic data set.")
HTML = flags.DEFINE_string("html", "", "Write an HTML report with plots to this file.")


def main(argv: list[str]) -> None:
    """See the module."""
    del argv
    config = from_config_dict(CONFIG.value)
    with contextlib.ExitStack() as stack:
        workdir = WORKDIR.value or stack.enter_context(tempfile.TemporaryDirectory())
        raw = open_source(config, workdir)
    data = open_inspected(raw, config)
    figures = inspect_data(data)
    figures["strata"] = data_page.strata(data.sequences)
    findings = check_data(raw, data, figures)
    figures["warnings"] = [finding._asdict() for finding in findings]
    for title, rows in data_page.tables(figures).items():
        print(f"\n{title}\n{format_table(rows) if rows else '–'}")
    print("\nWarnings" if findings else "\nNo problems found.")
    for about, what, remedy in findings:
        print(f"! {about}: {what}\n  → {remedy}")
    if shared.JSON.value:
        write_json(shared.JSON.value, figures)
    if HTML.value:
        print(f"\npage: {data_page.write_page(HTML.value, config.name, figures)}")


if __name__ == "__main__":
    flags.mark_flags_as_required(["config"])
    shared.run(main)
