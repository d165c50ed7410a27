"""`launch.simulate responsiveness`: measures how lists change after a dislike or a skip."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from negflax.config import ConfigError
from negflax.evaluate import build_queries, evaluate_scorer, format_table
from negflax.evaluate.baselines.personal_scores import adjusted_scorer
from negflax.files import write_json
from negflax.simulate import ceiling, measures, pairs, responsiveness
from negflax.simulate import responsiveness_page as page
from negflax.simulate.ideal import Aim
from negflax.simulate.measures import KINDS, Lists
from negflax.simulate.pair_bootstrap import ENDS
from negflax.simulate.pair_bootstrap import shares as shares_of
from negflax.simulate.personal_arms import personal_arms, verdict
from negflax.simulate.responsiveness import Settings

from . import flags as shared
from .arm_runs import World, arms_of, worlds_of

REFERENCE = "input_only"  # the arm that the other arms' loss of HR_p is measured against
SHOWN_STEPS = ("k+5", "k+10", "k+20")
TELLS = {"dislike": {"dislike"}, "skip": {"dwell", "watch_ratio"}}  # features that show a signal


def run(
    folders: Sequence[str],
    checkpoint: str,
    all_settings: dict[str, Settings],
    html: str,
    personal: bool = False,
) -> None:
    """Measures the responsiveness of every arm, prints the tables and writes them.

    Args:
      folders: folders of trained runs, or of arms that hold one run per training seed.
      checkpoint: which checkpoint to load: latest, best or a step.
      all_settings: kind of trajectories (shared, own) → settings of the simulation.
      html: path of the HTML page; empty: no page.
      personal: whether baselines that train nothing are measured as well (personal_arms.py).

    Raises:
      ConfigError: no run is named, or the runs of a world have different catalogues.
    """
    if not folders:
        raise ConfigError(
            "responsiveness needs --workdir: folders of trained runs, separated by commas"
        )
    arms = arms_of(folders)
    shared.start(next(iter(arms.values()))[0])
    worlds = worlds_of(arms, checkpoint)
    trained = worlds[0].runs
    if personal:
        worlds = [with_baselines(world) for world in worlds]
    settings = next(iter(all_settings.values()))
    found = measure(worlds, all_settings)
    table, named = found["table"], found["named"]
    signal = settings.plan.signal
    print(f"world: {named['world']}, {len(worlds)} seed(s) of it")
    print(format_table([_short(row) for row in table if _headline(row)]))
    print(f"\n{format_table(found['quality'])}")
    if found["ceilings"]:
        print(f"\n{format_table(found['ceilings'])}")
    first = worlds[0]
    for kind, kind_V in measures.kinds_of(first.sequences.catalogue).items():
        effect = pairs.log_effect(
            first.sequences, kind_V, settings.resamples, settings.seed, signal
        )
        random = responsiveness.chances(found["walks"][0], first.sequences.catalogue)[kind]
        named |= {f"log_effect/{kind}{end}": x for end, x in zip(ENDS, effect, strict=True)}
        named[f"chance/{kind}"] = random
        print(
            f"\n{kind}: effect in the log itself {_interval(effect)}; "
            f"similarity of a random list {random:.4f}"
        )
    if personal and "shared" in all_settings:  # on which the verdict rests
        length = next(iter(trained.values()))[0].config.eval.ks[0]
        beats, sentence = verdict(named, trained, list(worlds[0].added), length)
        named |= beats
        print(f"\n{sentence}" if sentence else "")
    print(f"{named['pairs_per_second']:,.0f} pairs per second, without compilation")
    rows = [{key: or_null(x) for key, x in row.items()} for row in table]
    out = shared.JSON.value or Path(folders[0]) / "responsiveness.json"
    write_json(out, {key: or_null(x) for key, x in named.items()} | {"rows": rows})
    if html:
        print(f"page: {page.write_page(html, table, named, settings, found['shown'])}")


def measure(worlds: Sequence[World], all_settings: Mapping[str, Settings]) -> dict[str, Any]:
    """Measures all arms over all worlds.

    Returns:
      `named` figures, and the rows of the tables: `table` (all measures), `quality` (HR_p),
      `ceilings` (shares of the ideal observer's response); `shown` example users; some `walks`.
    """
    table, named, rates, shown = [], {"world": worlds[0].label}, [], []
    settings = next(iter(all_settings.values()))
    signal, heads = settings.plan.signal, {}
    for where, how in all_settings.items():
        for name in worlds[0].runs:
            lists = []
            for world in worlds:
                outcomes = [
                    responsiveness.simulate(run, world.sequences, how, added)
                    for run, added in world.adjusted(name)
                ]
                rates += [(name, where, outcome.pairs_per_second) for outcome in outcomes]
                walks = [outcome.found for outcome in outcomes]
                lists.append(Lists(walks, world.sequences.catalogue))
            rows = measures.summarise(lists, settings.resamples, settings.seed, signal)
            table += [{"trajectories": where, "arm": name, **row} for row in rows]
            label = name if where == "shared" else f"{name}/own"
            named |= measures.figures(label, rows, signal)
            speeds = [x for *of, x in rates if of == [name, where]]
            named[f"pairs_per_second/{label}"] = float(np.mean(speeds))
            if where == "shared":
                heads[name] = [measures.headline(one, signal) for one in lists]
                tells = TELLS[signal] & set(worlds[0].runs[name][0].config.model.features)
                if tells and name not in worlds[0].added:
                    runs = lists[0].runs
                    shown.append(page.users(name, runs[0], worlds[0].sequences, settings))
    named["pairs_per_second"] = float(np.mean([x for *_, x in rates]))
    hr_p, quality_rows = quality(worlds)
    shares, ceiling_rows = shares_of_ceilings(worlds, heads, settings)
    return {
        "named": named | hr_p | shares,
        "table": table,
        "quality": quality_rows,
        "ceilings": ceiling_rows,
        "shown": shown,
        "walks": lists[0].runs,
    }


def with_baselines(world: World) -> World:
    """Returns the world with the personal baselines of its arms as further arms."""
    found = personal_arms(world.runs, world.sequences)
    weights = {}
    for name, (_, added) in found.items():
        calibrated = added[0].counts
        weights[name] = (world.weights if calibrated else world.own_weights)[name.split("/")[0]]
    return dataclasses.replace(
        world,
        runs=world.runs | {name: runs for name, (runs, _) in found.items()},
        weights=world.weights | weights,
        added={name: added for name, (_, added) in found.items()},
    )


def quality(worlds: Sequence[World]) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Returns HR_p and HR_n of every arm in the test period with seen items masked, and a table.

    `hr_p@K/<arm>` is the mean over seeds, `_low` and `_high` are the lowest and highest run, and
    `hr_p_cost/<arm>` is the relative loss compared with `input_only`, if that arm is present.
    `hr_n@K/<arm>` likewise: the share of users who get an item that they then dislike.
    """
    named, rows = {}, []
    for name, runs in worlds[0].runs.items():
        config = runs[0].config.eval
        key, rejected, found = f"hr_p@{config.ks[0]}", f"hr_n@{config.ks[0]}", []
        for world in worlds:
            queries = build_queries(world.sequences, "test", 0, config.seed, config.state)
            for one, added in world.adjusted(name):
                scorer = adjusted_scorer(one, world.sequences, added)
                measured = evaluate_scorer(scorer, queries, world.sequences, config)
                found.append([measured[key], measured[rejected]])
        for metric, values in zip((key, rejected), np.transpose(found), strict=True):
            spread = float(values.mean()), float(values.min()), float(values.max())
            named |= {f"{metric}/{name}{end}": x for end, x in zip(ENDS, spread, strict=True)}
        lowest, highest = (named[f"{key}/{name}{end}"] for end in ENDS[1:])
        row = {"arm": name, key: named[f"{key}/{name}"], "lowest": lowest, "highest": highest}
        rows.append(row | {rejected: named[f"{rejected}/{name}"], "runs": len(found)})
    for row in rows:
        base = named.get(f"{key}/{REFERENCE}")
        if base:
            row["cost"] = named[f"hr_p_cost/{row['arm']}"] = 1 - row[key] / base
    return named, rows


def shares_of_ceilings(
    worlds: Sequence[World], heads: Mapping[str, Sequence[Any]], settings: Settings
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Returns each arm's response as a share of the ideal observer's, and a table of it.

    Figures: `ceiling/<arm>/<kind>` and `share/<arm>/<kind>` at the run's own weight, which is
    `w/<arm>`; `mass_ceiling/…` and `mass_share/…`, the same of the probabilities of the kinds;
    `ceiling_at_omega/…` at the ω of the config, and `ceiling_in_session/…` if the session is known
    to go on; all with `_low` and `_high`. Nothing for logs of real users, and for objectives of
    which the observer knows no list.

    Args:
      worlds: runs and logs.
      heads: arm → similarities on shared trajectories, one per world.
      settings: settings of the simulation.
    """
    named, rows = {}, []
    aims: dict[str, dict[str, list[Aim]]] = {}
    for arm in heads if worlds[0].config else ():
        w, first = [world.weights[arm] for world in worlds], worlds[0].runs[arm][0]
        omega = ceiling.own_omega(first) or first.config.loss.omega
        if None in w:
            continue
        named[f"w/{arm}"] = float(np.mean(w))
        aims[arm] = {
            "ceiling": [Aim(w=x) for x in w],
            "ceiling_at_omega": [Aim(omega=omega) if x else Aim() for x in w],
            "ceiling_in_session": [Aim(w=x, session_goes_on=True) for x in w],
        }
    if not aims:
        return named, rows
    found = [
        ceiling.ceilings(
            world.config,
            world.sequences,
            settings,
            {one[number] for of_arm in aims.values() for one in of_arm.values()},
        )
        for number, world in enumerate(worlds)
    ]
    for arm, of_arm in aims.items():
        ideal = {
            what: [of_world[aim] for of_world, aim in zip(found, by_world, strict=True)]
            for what, by_world in of_arm.items()
        }
        for what in ("ceiling_at_omega", "ceiling_in_session"):
            named |= ceiling.figures(f"{what}/{arm}", ideal[what], settings)
        shares = shares_of(heads[arm], ideal["ceiling"], settings.resamples, settings.seed)
        for number, row in enumerate(shares):  # of lists by kind, then of probabilities by kind
            of, kind = ("", "mass_")[number // len(KINDS)], KINDS[number % len(KINDS)]
            for what in ("ceiling", "share"):
                named |= {f"{of}{what}/{arm}/{kind}{end}": row[f"{what}{end}"] for end in ENDS}
        columns = ("share", "ceiling", "mass_share", "ceiling_at_omega", "ceiling_in_session")
        rows += [
            {"arm": arm, "kind": kind, "w": named[f"w/{arm}"]}
            | {
                what: _interval([named[f"{what}/{arm}/{kind}{end}"] for end in ENDS])
                for what in columns
            }
            for kind in KINDS
        ]
    return named, rows


def or_null(x: Any) -> Any:
    """Replaces non-finite floats by None, as JSON has no infinity.

    A ratio is infinite if no similar item was listed without the dislike.
    """
    if isinstance(x, list):
        return [or_null(one) for one in x]
    return None if isinstance(x, float) and not math.isfinite(x) else x


def _headline(row: dict[str, Any]) -> bool:
    later = row["what"].startswith("k+")
    return row["K"] in (0, measures.LENGTHS[0]) and (not later or row["what"] in SHOWN_STEPS)


def _short(row: dict[str, Any]) -> dict[str, Any]:
    kept = {key: row[key] for key in ("trajectories", "arm", "what", "kind", "before", "after")}
    change = _interval([row[f"change{end}"] for end in ENDS])
    return kept | {"change": change, "n": row["n"], "seeds": row["seeds"]}


def _interval(found: Any) -> str:
    return "{:+.3f} [{:+.3f}, {:+.3f}]".format(*found)
