"""negflax: sequential recommenders that learn from negative feedback, in JAX.

    import negflax

    run = negflax.fit("my_events.csv", workdir="runs/mine")
    lists = run.recommend("my_events.csv", k=10)

Names are imported when they are first used, so that `import negflax` itself costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from negflax.config import Config
    from negflax.loss import ntr_loss, register_objective
    from negflax.model import register_encoder
    from negflax.run import Run, fit, load

__version__ = "0.1.0"

_HOME = {
    "Config": "negflax.config",
    "Run": "negflax.run",
    "fit": "negflax.run",
    "load": "negflax.run",
    "ntr_loss": "negflax.loss",
    "register_encoder": "negflax.model",
    "register_objective": "negflax.loss",
}
__all__ = [
    "Config",
    "Run",
    "__version__",
    "fit",
    "load",
    "ntr_loss",
    "register_encoder",
    "register_objective",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'negflax' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
