"""Runs with random parameters for the tests of the page."""

import dataclasses

import jax
import numpy as np

from negflax.config import Config, EvalConfig, MeshConfig, ModelConfig
from negflax.evaluate import evaluation
from negflax.evaluate.report import run_page as page
from negflax.evaluate.report.examples import NO, YES
from negflax.mesh import make_mesh
from negflax.model import Recommender
from negflax.train.restore import Trained
from negflax.train.step import Trainer
from negflax.train.writers import MetricWriter

CONFIG = Config(
    name="first",
    model=ModelConfig(hidden=6, embedding=6, feature_dim=4, features=("dislike",)),
    eval=EvalConfig(ks=(5,), history=6, bootstrap=40),
)


def make_runs(log, workdir):
    """(the random log with creators, clusters, titles and dislikes; a run and its double)."""
    rng = np.random.default_rng(3)
    creator_V = np.append(0, rng.integers(1, 6, 40)).astype(np.int32)
    titles = np.array(["", *(f"Title <{i}>" for i in range(40))])
    catalogue = dataclasses.replace(
        log.catalogue, creator_V=creator_V, clusters_VC=creator_V[:, None] % 3, titles=titles
    )
    dislike_E = rng.integers(NO, YES + 1, len(log.item_E)).astype(np.uint8)
    sequences = dataclasses.replace(log, catalogue=catalogue, dislike_E=dislike_E)

    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    model = Recommender(CONFIG.model, catalogue)
    state = Trainer(CONFIG, model, catalogue.train_count_V, 1, mesh).init()
    trained = Trained(CONFIG, catalogue, model, state, 3, mesh)
    result = evaluation.evaluate_trained(trained, "test", "", sequences)
    writer = MetricWriter(workdir)
    for step in (1, 2, 3):
        writer.write(step, "train", {"loss": 3.0 / step, "loss_negative": 0.1})
    writer.write(3, "valid", {"hr_p@5": 0.2, "hr_n@5": 0.1, "ndcg_p@5": 0.1})
    writer.close()
    first = page.look_at("first", trained, result, sequences, "test", workdir)
    return sequences, (first, dataclasses.replace(first, name="second"))
