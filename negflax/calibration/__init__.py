"""Corrects a trained model's scores by what a user did with the items' clusters and creators.

`calibrate` fits a few scalars after training (docs/calibration.md); evaluation, lists, sessions,
exports and simulations add the same correction.
"""

from negflax.calibration.kind_counts import KindCounts, UserCounts, counts_of
from negflax.calibration.kind_shift import Calibration, Shift, added, history_shifts
from negflax.calibration.stored_calibration import (
    load_calibrated,
    parameters_fingerprint,
    read_calibration,
    write_calibration,
)

__all__ = [
    "Calibration",
    "KindCounts",
    "Shift",
    "UserCounts",
    "added",
    "counts_of",
    "history_shifts",
    "load_calibrated",
    "parameters_fingerprint",
    "read_calibration",
    "write_calibration",
]
