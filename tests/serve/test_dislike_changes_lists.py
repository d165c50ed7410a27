"""What serving is for here: after a dislike, the next list holds fewer items of its kind."""

import numpy as np
import pytest
from kinds import KINDS, kind, trained_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained_run(tmp_path_factory.mktemp("run") / "mine")


def test_the_share_of_its_kind_falls_at_once(run):
    before, liked, disliked = [], [], []
    for item in range(10, 10 + 3 * KINDS):
        session = run.session()
        for earlier in range(KINDS):  # one of each kind
            session.add({"item_id": earlier, "like": True, "dislike": False})

        def share(session, item=item):
            listed = session.recommend(10, exclude_seen=False)["item_id"].to_pylist()
            return np.mean([kind(other) == kind(item) for other in listed])

        other = run.session(state=session.to_bytes())
        before.append(share(session))
        session.add({"item_id": item, "like": True, "dislike": False})
        other.add({"item_id": item, "like": False, "dislike": True})
        liked.append(share(session))
        disliked.append(share(other))
    print(f"share of its kind: {np.mean(before):.2f} before, {np.mean(disliked):.2f} after")
    assert np.mean(before) > 0.12
    assert np.mean(disliked) < 0.5 * np.mean(before)
    assert np.mean(disliked) < 0.5 * np.mean(liked)
