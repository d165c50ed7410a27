"""A run with random parameters: serving does not ask whether they were learned."""

import jax
import numpy as np
import pytest

from negflax.config import Config, EvalConfig, MeshConfig, ModelConfig
from negflax.data import Catalogue
from negflax.mesh import make_mesh
from negflax.model import Recommender
from negflax.serve import TrainedRecommender
from negflax.train.checkpoint import Checkpoints, write_config
from negflax.train.restore import CATALOGUE, Trained
from negflax.train.step import Trainer

ITEMS = 12
CONFIG = Config(
    model=ModelConfig(
        hidden=6, embedding=6, feature_dim=3, features=("dislike", "watch_ratio", "gap", "creator")
    ),
    eval=EvalConfig(history=5, users_per_block=4),
)


@pytest.fixture(scope="session")
def trained():
    rng = np.random.default_rng(0)
    creator_V = np.append(0, rng.integers(1, 4, ITEMS)).astype(np.int32)
    catalogue = Catalogue(
        item_ids=np.arange(10, 10 + ITEMS),
        creator_V=creator_V,
        clusters_VC=creator_V[:, None],
        train_count_V=np.ones(ITEMS + 1, np.int64),
        duration_V=np.append(np.nan, np.full(ITEMS, 1000.0)),
    )
    mesh = make_mesh(MeshConfig(), jax.devices()[:1])
    model = Recommender(CONFIG.model, catalogue)
    trainer = Trainer(CONFIG, model, catalogue.train_count_V, 1, mesh)
    return Trained(CONFIG, catalogue, model, trainer.init(), 0, mesh)


@pytest.fixture(scope="session")
def recommender(trained):
    return TrainedRecommender(trained, history=5, users_at_a_time=4)


@pytest.fixture(scope="session")
def workdir(trained, tmp_path_factory):
    """A run's folder with two checkpoints, both of the same parameters."""
    folder = tmp_path_factory.mktemp("run")
    write_config(folder, trained.config)
    trained.catalogue.save(folder / CATALOGUE)
    checkpoints = Checkpoints(folder, trained.config.train.metric)
    for step, quality in ((1, 0.2), (2, 0.1)):
        checkpoints.save(step, trained.state, {trained.config.train.metric: quality})
    checkpoints.close()
    return folder
