"""Runs of a study: each is trained and ranked once, and its results are stored.

A run writes its figures to <workdir>/runs/NAME.json and the ranks of all judged items to NAME.npz,
those of scorers built on its model to NAME+SCORER.npz. Stored runs are not repeated.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jax.sharding import Mesh

from negflax.config import Config
from negflax.data import Sequences
from negflax.evaluate.baselines.markov import default_baselines
from negflax.evaluate.baselines.popularity import cached
from negflax.evaluate.protocol import EvaluationError, Queries, Scorer, build_queries
from negflax.evaluate.ranking import Ranks, rank_scorers
from negflax.files import plain, write_json
from negflax.study.ranked import read_ranks, write_ranks
from negflax.study.settings import ARMS, BASELINE, Contender
from negflax.study.time_left import Progress
from negflax.study.training import TRAINED_ON, Training, summary
from negflax.train.restore import Trained

STABILITY_SHARE = 0.2  # length of a stability run, as a share of a full continuation

Build = Callable[[Scorer], Mapping[str, Scorer]]


class Found(NamedTuple):
    """The stored results of a run.

    Attributes:
      figures: setting, weight, largest logit and its growth, time.
      ranks: scorer → ranks by `masked`; "" is the model, the others build on it. Empty if a score
        was not finite.
    """

    figures: dict[str, Any]
    ranks: dict[str, dict[bool, Ranks]]


class Runs(Training):
    """All runs on one data set with one model."""

    def __init__(self, config: Config, workdir: Path, sequences: Sequences, mesh: Mesh):
        """Takes the config that all runs vary, their folder and their data."""
        super().__init__(config, workdir, sequences, mesh)
        self.queries: dict[str, Queries] = {
            split: build_queries(sequences, split) for split in TRAINED_ON
        }
        self.progress = Progress()

    def run(
        self,
        name: str,
        arm: Contender,
        setting: float,
        split: str,
        seed: int,
        build: Build | None = None,
    ) -> Found:
        """Trains one objective with one setting from the warm start, and ranks on `split`.

        Args:
          name: name of the arm.
          arm: objective to train.
          setting: value of its tuned parameter.
          split: `valid` or `test`.
          seed: training seed.
          build: function from the model's scorer to further scorers built on it, by name.
        """

        def work(place: Path) -> dict[str, Any]:
            loss = arm.loss(setting, self.p_bar(split, seed))
            state, trace = self.go_on(arm, loss, split, seed, self.steps[1])
            kept = {"setting": setting, "w": loss.get("w", 0.0)} | summary(trace)
            try:
                return kept | {"scorers": self.rank(place, self.scorer(state), build, split)}
            except EvaluationError as error:  # a diverged run is a result, not a failure
                return kept | {"scorers": [], "error": str(error)}

        return self.once(f"{split}-{name}-{setting:.4g}-{seed}", work)

    def built(
        self, name: str, split: str, seed: int, build: Callable[[Trained], Mapping[str, Scorer]]
    ) -> Found:
        """Trains positives only, and ranks scorers that are built on the run ("": the run's own).

        Args:
          name: name of the stored result.
          split: `valid` or `test`.
          seed: training seed.
          build: function from the run to the scorers.
        """

        def work(place: Path) -> dict[str, Any]:
            arm = ARMS[BASELINE]
            loss = arm.loss(0.0, self.p_bar(split, seed))
            state, trace = self.go_on(arm, loss, split, seed, self.steps[1])
            scorers = build(self.trained(state, split))
            return summary(trace) | {"scorers": self.rank(place, None, lambda _: scorers, split)}

        return self.once(name, work)

    def baselines(self, split: str) -> Found:
        """Ranks the baselines that need no training."""

        def work(place: Path) -> dict[str, Any]:
            seed, c = self.config.eval.seed, self.config.eval.negative_popularity
            scorers = default_baselines(self.sequences, TRAINED_ON[split], seed, c)
            return {"scorers": self.rank(place, None, lambda _: scorers, split)}

        return self.once(f"{split}-baselines", work)

    def stable(self, name: str, arm: Contender, w: float) -> dict[str, Any]:
        """Returns the logits' figures after a short continuation at weight w without a ramp."""

        def work(_: Path) -> dict[str, Any]:
            warm, total = self.steps
            stop = warm + max(1, round(STABILITY_SHARE * (total - warm)))
            loss = arm.weighted(w) | {"ramp_steps": 1}
            return {"w": w} | summary(self.go_on(arm, loss, "valid", 0, stop)[1])

        return self.once(f"stability-{name}-{w:.4g}", work).figures

    def rank(self, place: Path, model: Scorer | None, build: Build | None, split: str) -> list[str]:
        """Stores the ranks of a model ("") and of the scorers built on it; returns the names."""
        base = cached(model) if model else None
        scorers = ({"": base} if base else {}) | dict(build(base) if build else {})
        block, modes = self.config.eval.users_per_block, (True, False)
        found = rank_scorers(scorers, self.queries[split], self.sequences, modes, block)
        for name in scorers:
            write_ranks(_beside(place, name), {masked: found[masked, name] for masked in modes})
        return list(scorers)

    def once(self, name: str, work: Callable[[Path], dict[str, Any]]) -> Found:
        """Returns the results of the run of that name, which is done first if not stored."""
        place = self.workdir / "runs" / name
        path = place.with_name(f"{name}.json")
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            wall, cpu = time.monotonic(), time.process_time()
            found = work(place)
            seconds = time.monotonic() - wall
            spent = {"seconds": seconds, "cpu_seconds": time.process_time() - cpu}
            write_json(path, plain(found | spent))
            self.progress.made(name, seconds)
        else:
            self.progress.known(name)
        figures = json.loads(path.read_text())
        return Found(
            figures, {n: read_ranks(_beside(place, n)) for n in figures.get("scorers", [])}
        )


def _beside(place: Path, scorer: str) -> Path:
    return place.with_name(f"{place.name}+{scorer}") if scorer else place
