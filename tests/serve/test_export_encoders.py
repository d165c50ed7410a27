"""Every encoder can be exported, and goes on by steps."""

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from negflax.model import Recommender
from negflax.serve import TrainedRecommender, export
from negflax.train.step import Trainer

EXAMPLE = Path(__file__).parents[2] / "examples/serve/from_export.py"


@pytest.mark.system  # compiles four programs for each
@pytest.mark.parametrize("encoder", ["gru_memory", "lstm", "cfn", "rglru", "attention"])
def test_a_history_and_steps(trained, tmp_path, encoder):
    settings = dataclasses.replace(trained.config.model, encoder=encoder, heads=2)
    config = dataclasses.replace(trained.config, model=settings)
    model = Recommender(settings, trained.catalogue)
    trainer = Trainer(config, model, trained.catalogue.train_count_V, 1, trained.mesh)
    run = dataclasses.replace(trained, config=config, model=model, state=trainer.init())
    served = TrainedRecommender(run, history=16)
    export.write_export(served, tmp_path, platforms=("cpu",), index=False)
    spec = importlib.util.spec_from_file_location("from_export", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    exported = module.ExportedModel(tmp_path)
    events = [{"item_id": i, "dislike": i % 3 == 0} for i in (10, 12, 15, 20)]
    session = served.session()
    state, carry, _ = exported.state([])
    for event in events:
        session.add(event)
        state, carry = exported.step(event, carry)
    whole, _, _ = exported.state(events)
    np.testing.assert_allclose(state, session.state, atol=1e-5)
    np.testing.assert_allclose(whole, session.state, atol=1e-5)
