"""Settings on the command line."""

import importlib
import sys
from pathlib import Path
from unittest import mock

import pytest
from absl import flags
from programs import fresh_flags

# ml_collections loads config files in a way that Python 3.12 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

CONFIG = Path(__file__).parents[2] / "configs" / "event_log.py"


def parsed(*settings):
    """The config that launch.train would train by."""
    argv = ["train", f"--config={CONFIG}", *settings]
    with fresh_flags(), mock.patch.object(sys, "argv", argv):
        program = importlib.import_module("launch.train")
        flags.FLAGS(argv)
        return program.CONFIG.value


@pytest.mark.parametrize(
    ("settings", "negative"),
    [
        (["returned: 2"], ("returned: 2",)),
        (["rating <= 2; reason == 'a, b'"], ("rating <= 2", "reason == 'a, b'")),
        (["('dislike', 'rating <= 2')"], ("dislike", "rating <= 2")),
        (["dislike", "rating <= 2"], ("dislike", "rating <= 2")),
        ([""], ()),
    ],
)
def test_label_rules_are_plain_text(settings, negative):
    config = parsed(*(f"--config.labels.negative={x}" for x in settings))
    assert config.labels.negative == negative


def test_tuples_of_numbers():
    assert parsed("--config.eval.ks=5, 20").eval.ks == (5, 20)
