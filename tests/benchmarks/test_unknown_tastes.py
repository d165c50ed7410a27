"""An observer who infers tastes finds them, and responds to nothing where there is nothing."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks._taste_posterior import sample_tastes
from negflax.config import Config, WorldConfig
from negflax.data import open_sequences
from negflax.simulate.ideal import past_of, places, users_of
from negflax.world import draw_population, mechanisms

pytestmark = pytest.mark.system  # a minute of compilation, for a benchmark

ROOT = Path(__file__).parents[2]
SIZES = dict(num_users=200, num_items=100, num_creators=10, num_clusters=8)


def test_samples_are_around_the_true_taste(tmp_path):
    world = WorldConfig(**SIZES)
    log = open_sequences(Config(world=world), tmp_path)
    able_U = np.flatnonzero(np.diff(log.offsets_U1) >= 40)[:40]
    event_ST = log.offsets_U1[able_U + 1][:, None] + np.arange(-40, 0)
    p, population = mechanisms(world), draw_population(world)
    past_ST = past_of(log, event_ST, places(log, population))
    user_S = users_of(log, event_ST)
    tastes, accepted = sample_tastes(population, past_ST, user_S, jax.random.key(0), p=p)
    assert 0.6 < accepted <= 1 and np.isfinite(tastes.taste_SNW).all()
    true_SW = np.asarray(population.users.taste_UW)[user_S]
    mean_SW = np.asarray(tastes.taste_SNW).mean(axis=1)
    assert np.corrcoef(mean_SW.ravel(), true_SW.ravel())[0, 1] > 0.5
    assert 0.2 < np.asarray(tastes.taste_SNW).std(axis=1).mean() < 1  # the prior has 1


def test_the_table_has_both_observers_and_in_the_control_both_do_nothing(tmp_path):
    out = tmp_path / "tastes.json"
    command = [sys.executable, "-m", "benchmarks.unknown_tastes", "--worlds=heedless,control"]
    command += ["--users=200", "--items=100", "--creators=10", "--pairs=20", "--weights=0,780"]
    subprocess.run([*command, f"--json={out}"], check=True, cwd=ROOT)
    rows = json.loads(out.read_text())["rows"]
    assert [(row["world"], row["w"]) for row in rows] == [
        (world, w) for world in ("heedless", "control") for w in (0, 780)
    ]
    for row in rows:
        for who in ("knows", "infers"):
            for what in ("lists", "probability"):
                change = row[f"{who}/{what}"]
                assert change == 0 if row["world"] == "control" else change < 0
