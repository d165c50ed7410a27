"""The recipe of docs/serving.md: an export in a vector database, in its embedded mode."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from negflax.serve import TrainedRecommender, export

ROOT = Path(__file__).parents[2]


@pytest.mark.system
def test_the_recipe_gives_the_lists_of_the_export(trained, tmp_path, monkeypatch, capsys):
    pytest.importorskip(
        "qdrant_client", reason="pip install qdrant-client, on any machine, to run this"
    )
    served = TrainedRecommender(trained, history=8)
    export.write_export(served, tmp_path / "exported", platforms=("cpu",), index=False)
    page = (ROOT / "docs/serving.md").read_text()
    (code,) = [c for c in re.findall(r"^```python\n(.*?)^```", page, re.M | re.S) if "qdrant" in c]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(ROOT / "examples/serve"), *sys.path])
    names = {}
    exec(code.replace("17", "14"), names)
    found = [point.payload["item_id"] for point in names["found"].points]
    session = served.session()
    session.add({"item_id": 14, "like": True})
    expected = session.recommend(5)
    assert found == expected["item_id"].to_pylist()
    scores = [point.score for point in names["found"].points]
    np.testing.assert_allclose(scores, expected["score"], rtol=1e-4)
    client = names["client"]
    client.close()
