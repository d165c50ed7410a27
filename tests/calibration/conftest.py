"""A small run with random parameters, and with a calibration of random scalars."""

import dataclasses

import numpy as np
import pytest
from small_run import CONFIG, items, log, untrained

from negflax.calibration import Calibration, parameters_fingerprint
from negflax.calibration.kind_terms import SCALARS, Scales
from negflax.data.sequences import build_sequences
from negflax.data.sources import RawData


@pytest.fixture(scope="session")
def sequences():
    return build_sequences(RawData(log(), items(), "made up"), CONFIG)


@pytest.fixture(scope="session")
def trained(sequences):
    return untrained(sequences.catalogue)


@pytest.fixture(scope="session")
def calibrated(trained):
    rng = np.random.default_rng(2)
    values = {
        kind: dict(zip(SCALARS, rng.normal(size=len(SCALARS)), strict=True))
        for kind in ("cluster", "creator")
    }
    calibration = Calibration(parameters_fingerprint(trained), Scales(3, 5.0, 0.9), values)
    return dataclasses.replace(trained, calibration=calibration)
