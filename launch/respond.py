"""`launch.simulate responsiveness`: measures how lists change after a dislike or a skip."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from negflax.config import ConfigError, MeshConfig
from negflax.data import Sequences, open_sequences
from negflax.evaluate import build_queries, evaluate_scorer, format_table
from negflax.evaluate.scorer import model_scorer
from negflax.files import write_json
from negflax.mesh import make_mesh
from negflax.simulate import measures, pairs, responsiveness
from negflax.simulate import responsiveness_page as page
from negflax.simulate.measures import ENDS
from negflax.simulate.responsiveness import Settings
from negflax.train.restore import Trained, load_trained

from . import flags as shared

SEED_FOLDER = "seed"  # runs of one arm that differ in their training seed: <arm>/seed0, seed1, …
REFERENCE = "input_only"  # the arm that the other arms' loss of HR_p is measured against
SHOWN_STEPS = ("k+5", "k+10", "k+20")
TELLS = {"dislike": {"dislike"}, "skip": {"dwell", "watch_ratio"}}  # features that show a signal


def run(
    folders: Sequence[str], checkpoint: str, all_settings: dict[str, Settings], html: str
) -> None:
    """Measures the responsiveness of every arm, prints the table and writes it.

    Args:
      folders: folders of trained runs, or of arms that hold one run per training seed.
      checkpoint: which checkpoint to load: latest, best or a step.
      all_settings: kind of trajectories (shared, own) → settings of the simulation.
      html: path of the HTML page; empty: no page.

    Raises:
      ConfigError: no run is named, or the runs have different catalogues.
    """
    if not folders:
        raise ConfigError(
            "responsiveness needs --workdir: folders of trained runs, separated by commas"
        )
    arms = arms_of(folders)
    first = next(iter(arms.values()))[0]
    shared.start(first)
    trained = {name: load_arm(seeds, checkpoint) for name, seeds in arms.items()}
    one = next(iter(trained.values()))[0]
    catalogue = one.catalogue
    for name, seeds in trained.items():
        if any(not np.array_equal(x.catalogue.item_ids, catalogue.item_ids) for x in seeds):
            raise ConfigError(
                f"{name} and {next(iter(arms))} have different catalogues: compare runs that were "
                "trained on the same data set with equal config.data"
            )
    sequences = open_sequences(one.config, first, catalogue)
    table, named, rates, shown = [], {}, [], []
    settings = next(iter(all_settings.values()))
    signal = settings.plan.signal
    for where, how in all_settings.items():
        for name, seeds in trained.items():
            outcomes = [responsiveness.simulate(x, sequences, how) for x in seeds]
            walks = [outcome.found for outcome in outcomes]
            rows = measures.summarise(walks, catalogue, settings.resamples, settings.seed, signal)
            table += [{"trajectories": where, "arm": name, **row} for row in rows]
            label = name if where == "shared" else f"{name}/own"
            named |= measures.figures(label, rows, signal)
            rates += [outcome.pairs_per_second for outcome in outcomes]
            named[f"pairs_per_second/{label}"] = float(np.mean(rates[-len(seeds) :]))
            if where == "shared" and TELLS[signal] & set(seeds[0].config.model.features):
                shown.append(page.users(name, walks[0], sequences, settings))
    named["pairs_per_second"] = float(np.mean(rates))
    print(format_table([_short(row) for row in table if _headline(row)]))
    named |= quality(trained, sequences)
    if one.config.data.source == "synthetic":
        omega = max(seeds[0].config.loss.omega for seeds in trained.values())
        found = responsiveness.ideal_figures(one.config.world, omega, sequences, settings)
        for name in ("ideal", "ideal_and_label"):
            for kind in measures.KINDS:
                print(
                    f"{name}, {kind}: {_interval([found[f'{name}/{kind}{end}'] for end in ENDS])}"
                )
        named |= found
    for kind, kind_V in measures.kinds_of(catalogue).items():
        found = pairs.log_effect(sequences, kind_V, settings.resamples, settings.seed, signal)
        random = responsiveness.chances(walks[0], catalogue)[kind]
        named |= {f"log_effect/{kind}{end}": x for end, x in zip(ENDS, found, strict=True)}
        named[f"chance/{kind}"] = random
        print(
            f"\n{kind}: effect in the log itself {_interval(found)}; "
            f"similarity of a random list {random:.4f}"
        )
    print(f"{named['pairs_per_second']:,.0f} pairs per second, without compilation")
    rows = [{key: _or_null(x) for key, x in row.items()} for row in table]
    out = shared.JSON.value or Path(folders[0]) / "responsiveness.json"
    write_json(out, {key: _or_null(x) for key, x in named.items()} | {"rows": rows})
    if html:
        print(f"page: {page.write_page(html, table, named, settings, shown)}")


def arms_of(folders: Sequence[str]) -> dict[str, list[Path]]:
    """Returns for each arm the folders of its runs, one per training seed.

    An arm is named after its folder. Runs in folders `seed0`, `seed1`, … belong to the arm named
    after their parent folder; that folder may be given in place of the runs.

    Raises:
      ConfigError: two arms have the same name.
    """
    arms: dict[str, list[Path]] = {}
    for folder in map(Path, folders):
        seeds = sorted(folder.glob(f"{SEED_FOLDER}[0-9]*"))
        is_arm = seeds and not (folder / "config.json").exists()
        is_seed = bool(re.fullmatch(rf"{SEED_FOLDER}\d+", folder.name))
        arm = folder.parent.name if is_seed else folder.name
        if arm in arms and not (is_seed and arms[arm][0].parent == folder.parent):
            raise ConfigError(
                f"--workdir: two folders are named {arm}, and arms are named after their folders: "
                "rename one"
            )
        arms[arm] = [*arms.get(arm, []), *(seeds if is_arm else [folder])]
    return arms


def load_arm(folders: Sequence[Path], checkpoint: str) -> list[Trained]:
    """Loads the runs of one arm onto one device; they share one model, so it is compiled once.

    Raises:
      ConfigError: the runs differ in config.model.
    """
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    found = [load_trained(folders[0], checkpoint, mesh)]
    for folder in folders[1:]:
        other = load_trained(folder, checkpoint, mesh, found[0].model)
        if other.config.model != found[0].config.model:
            raise ConfigError(
                f"{folder} and {folders[0]} are seeds of one arm but differ in config.model: put "
                "them in separate folders, as two arms"
            )
        found.append(other)
    return found


def quality(trained: dict[str, list[Trained]], sequences: Sequences) -> dict[str, float]:
    """Returns HR_p of every arm in the test period with seen items masked.

    `hr_p@K/<arm>` is the mean over training seeds, `_low` and `_high` are the lowest and highest
    seed, and `_cost` is the relative loss compared with `input_only`, if that arm is present.
    """
    named, rows = {}, []
    for name, seeds in trained.items():
        config = seeds[0].config.eval
        key = f"hr_p@{config.ks[0]}"
        found = []
        for one in seeds:
            queries = build_queries(sequences, "test", 0, config.seed, config.state)
            scorer = model_scorer(one.model, one.state, sequences, one.mesh, config.history)
            found.append(evaluate_scorer(scorer, queries, sequences, config)[key])
        values = float(np.mean(found)), float(min(found)), float(max(found))
        named |= {f"{key}/{name}{end}": x for end, x in zip(ENDS, values, strict=True)}
        row = {"arm": name, key: values[0], "lowest seed": values[1], "highest seed": values[2]}
        rows.append(row | {"seeds": len(seeds)})
    for row in rows:
        base = named.get(f"{key}/{REFERENCE}")
        if base:
            row["cost"] = named[f"{key}/{row['arm']}_cost"] = 1 - row[key] / base
    print(f"\n{format_table(rows)}")
    return named


def _or_null(x: Any) -> Any:
    """Replaces non-finite floats by None, as JSON has no infinity.

    A ratio is infinite if no similar item was listed without the dislike.
    """
    if isinstance(x, list):
        return [_or_null(one) for one in x]
    return None if isinstance(x, float) and not math.isfinite(x) else x


def _headline(row: dict[str, Any]) -> bool:
    later = row["what"].startswith("k+")
    return row["K"] == measures.LENGTHS[0] and (not later or row["what"] in SHOWN_STEPS)


def _short(row: dict[str, Any]) -> dict[str, Any]:
    kept = {key: row[key] for key in ("trajectories", "arm", "what", "kind", "before", "after")}
    change = _interval([row[f"change{end}"] for end in ENDS])
    return kept | {"change": change, "n": row["n"], "seeds": row["seeds"]}


def _interval(found: Any) -> str:
    return "{:+.3f} [{:+.3f}, {:+.3f}]".format(*found)
