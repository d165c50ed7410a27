import importlib.util

import pytest

from negflax.config import ConfigError
from negflax.train import chips


def test_an_unknown_chip_is_named_with_the_known_ones():
    with pytest.raises(ConfigError, match="tpu_v5e"):
        chips.absent("tpu_v99", 8)


@pytest.mark.parametrize(("name", "extra"), [("tpu_v6e", "negflax\\[tpu\\]"), ("h200", "cuda")])
def test_a_compiler_that_is_not_installed_is_named(name, extra, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=extra):
        chips.absent(name, 8)


def test_a_slice_that_does_not_exist(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: True)
    with pytest.raises(ConfigError, match="power of two"):
        chips.absent("tpu_v5e", 12)
