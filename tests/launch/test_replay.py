"""A step that a run stopped at, trained alone."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from programs import run

sys.path.append(str(Path(__file__).parents[1] / "train"))
import tiny  # noqa: E402

from negflax.config import ConfigError  # noqa: E402
from negflax.train.checkpoint import NonFiniteError, write_config  # noqa: E402
from negflax.train.loop import train  # noqa: E402
from negflax.train.restore import CATALOGUE  # noqa: E402


def test_a_step_is_trained_alone_and_its_bad_rows_are_named(tmp_path):
    sequences = tiny.make_sequences()
    config = tiny.changed(train={"max_skipped": 2}, batch={"rows": 4, "length": 6})
    trainer, batches = tiny.make_trainer(config, sequences)

    class Spoiled:
        """From step 5 on, an infinite weight in row 2."""

        def batch(self, i):
            batch = batches.batch(i)
            if i < 4:
                return batch
            r = batch.positive_weight_BTL.copy()
            first = np.argwhere(batch.label_ids_BTL[2] > 0)[0]
            r[(2, *first)] = np.inf
            return batch._replace(positive_weight_BTL=r)

    folder = tmp_path / "run"
    write_config(folder, config)
    sequences.catalogue.save(folder / CATALOGUE)
    with pytest.raises(NonFiniteError, match="launch.replay"):
        train(config, trainer, Spoiled(), 20, folder)
    before = sorted(folder.rglob("*"))
    path = folder / "skipped" / "batch-6.npz"
    run("replay", f"--workdir={folder}", f"--batch={path}", f"--json={tmp_path / 'found.json'}")
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["step"], found["skipped"], found["rows"]) == (6, 1, [2])
    assert found["loss"] is None and found["largest r"] is None
    assert sorted(folder.rglob("*")) == before
    with pytest.raises(ConfigError, match="--batch: .*config.json is not a batch"):
        run("replay", f"--workdir={folder}", f"--batch={folder / 'config.json'}")
