"""Parts of a calibration, with one program for all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from negflax.calibration import Calibration
from negflax.calibration.kind_terms import SCALARS
from negflax.config.feedback_calibration import KINDS


def with_terms(
    calibration: Calibration, keeps: Callable[[str], bool] = lambda scalar: True
) -> Calibration:
    """Returns the calibration with some of its scalars, and 0 for all others of both kinds.

    A program that is compiled for one such calibration serves all.

    Args:
      calibration: of a run.
      keeps: whether a scalar stays.
    """
    values = {
        kind: {
            name: calibration.values.get(kind, {}).get(name, 0.0) * keeps(name) for name in SCALARS
        }
        for kind in KINDS
    }
    return dataclasses.replace(calibration, values=values)
