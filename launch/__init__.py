"""Programs: python -m launch.NAME."""

import negflax.cli  # noqa: F401 - first of all, as Ctrl-C is one line from there on
