"""Feature codes: fixed edges, 0 only for the unknown."""

import numpy as np

from negflax.data import features

NAN = float("nan")


def test_bits():
    assert features.bits(np.array([NAN, 0, 1])).tolist() == [0, 1, 2]


def test_dwell_codes_are_ordered_and_0_ms_has_its_own():
    dwell = np.array([NAN, 0, 1, 499, 500, 708, 10_000, 1e9])
    code = features.dwell_codes(dwell)
    assert code[:6].tolist() == [0, 1, 2, 2, 3, 4]
    assert np.all(np.diff(code.astype(int)[1:]) >= 0)
    assert code[-1] == features.NUM_VALUES["dwell"] - 1


def test_watch_ratio_needs_a_duration():
    dwell = np.array([5.0, 5, NAN, 10, 0, 400])
    duration = np.array([0.0, NAN, 10, 10, 10, 100])
    code = features.watch_ratio_codes(dwell, duration).tolist()
    assert code[:3] == [0, 0, 0]
    assert code[3] == 1 + np.searchsorted(features.WATCH_RATIO_EDGES, 1.0, side="right")
    assert code[4:] == [1, features.NUM_VALUES["watch_ratio"] - 1]


def test_gap_codes():
    time = np.array([0, 500, -1, 9000, 8000, 12_000, 10**12])
    first = np.array([True, False, False, False, False, False, False])
    code = features.gap_codes(time, first).tolist()
    assert code[:5] == [0, 1, 0, 0, 0]  # first, half a second, unknown, after unknown, backwards
    assert code[5] == 1 + 3  # 4 s: the edges 1, 2 and 4 are at or below
    assert code[6] == features.NUM_VALUES["gap"] - 1
    assert features.gap_codes(np.array([1000, 3000]), np.array([True, True])).tolist() == [0, 0]


def test_surface_codes_do_not_depend_on_the_data():
    surface = np.array([NAN, 0, 14, 29, 30, 1000, -1])
    last = features.NUM_VALUES["surface"] - 1
    assert features.surface_codes(surface).tolist() == [0, 1, 15, 30, last, last, last]


def test_codes_fit_their_embeddings():
    everything = np.concatenate([[NAN], 10.0 ** np.arange(-3, 15)])
    codes = {
        "dwell": features.dwell_codes(everything),
        "watch_ratio": features.watch_ratio_codes(everything, np.ones(len(everything))),
        "surface": features.surface_codes(everything),
        "gap": features.gap_codes(np.cumsum(np.nan_to_num(everything)).astype(int), everything < 0),
    }
    for name, code in codes.items():
        assert code.dtype == np.uint8
        assert code.max() == features.NUM_VALUES[name] - 1
