"""Inputs that no event or item has are found."""

from types import SimpleNamespace

import numpy as np

from negflax.data.empty_inputs import empty_inputs

NOTHING = np.zeros(3, np.uint8)


def test_what_is_unknown_everywhere_is_found():
    sequences = SimpleNamespace(
        dislike_E=np.array([0, 2, 1]),
        dwell_E=NOTHING,
        dismissal_E=None,  # the log has no such column
        catalogue=SimpleNamespace(creator_V=NOTHING, clusters_VC=np.array([[0], [4], [0]])),
    )
    names = ("dislike", "dwell", "dismissal", "creator", "cluster")
    assert empty_inputs(sequences, names) == ["dwell", "dismissal", "creator"]
    assert empty_inputs(sequences, ()) == []
