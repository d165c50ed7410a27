"""The step as ONNX gives the states and lists of the run, in a process without jax."""

import dataclasses
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from negflax.config import ConfigError
from negflax.model import Recommender
from negflax.serve import TrainedRecommender, export, onnx_step
from negflax.train.step import Trainer

SERVE = Path(__file__).parents[2] / "examples/serve"
installed = pytest.mark.skipif(
    importlib.util.find_spec("jax2onnx") is None,
    reason="no jax2onnx: runs where negflax[onnx] is installed",
)
# jax2onnx asks jax for float64, and imports what warns.
pytestmark = pytest.mark.filterwarnings("default")
EVENTS = [
    {"item_id": 10 + i % 12, "dislike": i % 3 == 0, "timestamp_ms": 1_000 + 70_000 * i**2}
    for i in range(20)
]
# A process in which jax and negflax cannot be imported.
WITHOUT = "import sys; sys.modules['jax'] = sys.modules['negflax'] = sys.modules['pyarrow'] = None;"


@installed
@pytest.mark.parametrize(
    "encoder", ["gru", *(pytest.param(x, marks=pytest.mark.system) for x in ("cfn", "attention"))]
)
def test_states_and_lists_without_jax(trained, tmp_path, encoder):
    settings = dataclasses.replace(trained.config.model, encoder=encoder, heads=2)
    config = dataclasses.replace(trained.config, model=settings)
    model = Recommender(settings, trained.catalogue)
    trainer = Trainer(config, model, trained.catalogue.train_count_V, 1, trained.mesh)
    run = dataclasses.replace(trained, config=config, model=model, state=trainer.init())
    served = TrainedRecommender(run, history=8)
    export.write_export(served, tmp_path / "out", platforms=("cpu",), onnx=True)
    for name in ("from_export.py", "from_onnx.py"):
        shutil.copy(SERVE / name, tmp_path)
    code = WITHOUT + (
        "import json, from_onnx; import numpy as np; model = from_onnx.OnnxModel('out');"
        "assert from_onnx.main('out', reader=from_onnx.OnnxModel) == 0;"
        f"states = [model.state({EVENTS}[:n])[0] for n in (0, 3, 8)];"
        "np.save('states.npy', states)"
    )
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=paths, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.endswith("the list of the report\n")
    for events, found in zip((0, 3, 8), np.load(tmp_path / "states.npy"), strict=True):
        session = served.session()
        for event in EVENTS[:events]:
            session.add(event)
        np.testing.assert_allclose(found, session.state, atol=1e-5)


@installed
def test_a_conversion_that_differs_is_refused(recommender, tmp_path):
    with mock.patch.object(onnx_step, "_SAME", -1.0), pytest.raises(ConfigError, match="differs"):
        export.write_export(recommender, tmp_path, platforms=("cpu",), index=False, onnx=True)
    assert not (tmp_path / export.names.MANIFEST).exists()


def test_what_cannot_be_converted(recommender, tmp_path):
    programs = export.Programs(recommender)
    with mock.patch.dict(sys.modules, {"jax2onnx": None}):
        with pytest.raises(ConfigError, match=r"pip install 'negflax\[onnx\]'"):
            export.write_export(recommender, tmp_path / "none", onnx=True)
    assert not (tmp_path / "none").exists()
    there = {"jax2onnx": mock.Mock(), "onnxruntime": mock.Mock()}
    with mock.patch.dict(sys.modules, there), mock.patch.object(onnx_step, "LARGEST", 10):
        with pytest.raises(ConfigError, match="an ONNX file holds 2 GiB"):
            onnx_step.write_onnx(tmp_path, programs, recommender)
