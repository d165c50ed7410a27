"""Runs of a study: each trained, judged and kept once.

A run leaves its figures as <workdir>/runs/NAME.json and the ranks of all judged items as NAME.npz,
those of scorers on top of its model as NAME+SCORER.npz. What is there is not made again.
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
from negflax.evaluate.baselines.popularity import cached, default_baselines
from negflax.evaluate.protocol import EvaluationError, Queries, Scorer, build_queries
from negflax.evaluate.ranking import Ranks, rank_scorers
from negflax.files import plain, write_json
from negflax.study.progress import Progress
from negflax.study.ranked import read_ranks, write_ranks
from negflax.study.settings import Contender
from negflax.study.training import TRAINED_ON, Training, summary

STABILITY_SHARE = 0.2  # of a continuation, that a run of the stability grid lasts

Build = Callable[[Scorer], Mapping[str, Scorer]]


class Found(NamedTuple):
    """What a run left.

    Attributes:
      figures: strength, weight, what happened to the logits, time.
      ranks: scorer → ranks by `masked`; "" is the model, the others build on it. Empty where scores
        were not finite.
    """

    figures: dict[str, Any]
    ranks: dict[str, dict[bool, Ranks]]


class Runs(Training):
    """All runs on one data set with one model; `sequences` judges and trains them."""

    def __init__(self, config: Config, workdir: Path, sequences: Sequences, mesh: Mesh):
        """The run that all others vary, and where they leave their files."""
        super().__init__(config, workdir, sequences, mesh)
        self.queries: dict[str, Queries] = {
            split: build_queries(sequences, split) for split in TRAINED_ON
        }
        self.progress = Progress()

    def run(
        self,
        name: str,
        arm: Contender,
        strength: float,
        split: str,
        seed: int,
        build: Build | None = None,
    ) -> Found:
        """One objective at one strength: trained on from the warm start, judged on `split`.

        Args:
          name: of the arm.
          arm: what is trained.
          strength: of its knob.
          split: `valid` or `test`.
          seed: of training.
          build: the model's scorer → further ones on top of it, by name.
        """

        def work(place: Path) -> dict[str, Any]:
            loss = arm.loss(strength, self.p_bar(split, seed))
            state, trace = self.go_on(arm, loss, split, seed, self.steps[1])
            kept = {"strength": strength, "w": loss.get("w", 0.0)} | summary(trace)
            try:
                return kept | {"scorers": self.rank(place, self.scorer(state), build, split)}
            except EvaluationError as error:  # scores that are not finite are a finding
                return kept | {"scorers": [], "error": str(error)}

        return self.once(f"{split}-{name}-{strength:.4g}-{seed}", work)

    def baselines(self, split: str) -> Found:
        """Scorers that need no training, by name."""

        def work(place: Path) -> dict[str, Any]:
            seed, c = self.config.eval.seed, self.config.eval.negative_popularity
            scorers = default_baselines(self.sequences, TRAINED_ON[split], seed, c)
            return {"scorers": self.rank(place, None, lambda _: scorers, split)}

        return self.once(f"{split}-baselines", work)

    def stable(self, name: str, arm: Contender, w: float) -> dict[str, Any]:
        """What a plain weight does to the logits, in a short continuation without a ramp."""

        def work(_: Path) -> dict[str, Any]:
            warm, total = self.steps
            stop = warm + max(1, round(STABILITY_SHARE * (total - warm)))
            loss = arm.weighted(w) | {"ramp_steps": 1}
            return {"w": w} | summary(self.go_on(arm, loss, "valid", 0, stop)[1])

        return self.once(f"stability-{name}-{w:.4g}", work).figures

    def rank(self, place: Path, model: Scorer | None, build: Build | None, split: str) -> list[str]:
        """Stores the ranks of a model ("") and of what builds on it; their names."""
        base = cached(model) if model else None
        scorers = ({"": base} if base else {}) | dict(build(base) if build else {})
        block, modes = self.config.eval.users_per_block, (True, False)
        found = rank_scorers(scorers, self.queries[split], self.sequences, modes, block)
        for name in scorers:
            write_ranks(_beside(place, name), {masked: found[masked, name] for masked in modes})
        return list(scorers)

    def once(self, name: str, work: Callable[[Path], dict[str, Any]]) -> Found:
        """What a run of that name left, made if it is not there."""
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
