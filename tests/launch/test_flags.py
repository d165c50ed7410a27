"""Settings on the command line."""

import importlib
import sys
from pathlib import Path
from unittest import mock

import pytest
from absl import flags
from programs import fresh_flags

from negflax.config import ConfigError

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


def test_import_finds_modules_of_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
    (tmp_path / "own_parts.py").write_text("made = 1\n")
    (tmp_path / "lacks_another.py").write_text("import nowhere_at_all\n")
    with fresh_flags():
        import_modules = importlib.import_module("launch.flags").import_modules
        import_modules(["own_parts"])
        assert sys.modules.pop("own_parts").made == 1
        with pytest.raises(ConfigError, match="--import=own_prats: there is no module"):
            import_modules(["own_prats"])
        with pytest.raises(ConfigError, match="--import=own_prats.loss: there is no module"):
            import_modules(["own_prats.loss"])
        with pytest.raises(ModuleNotFoundError, match="nowhere_at_all"):
            import_modules(["lacks_another"])


def test_a_config_file_that_is_not_there():
    argv = ["train", "--config=nope.py:3"]
    with fresh_flags(), mock.patch.object(sys, "argv", argv):
        importlib.import_module("launch.train")
        with pytest.raises(SystemExit, match=r"^ConfigError: --config=nope.py: there is no such"):
            importlib.import_module("launch.flags")._parse(argv)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("--config.train.stepz=3", "config.train.stepz is not a setting; did you mean `steps`?"),
        ("--config.trainn.steps=3", "config.trainn.steps is not a setting; did you mean `train`?"),
        ("--config.qqq=3", "config.qqq is not a setting"),
    ],
)
def test_a_setting_that_is_none_is_told_in_plain_words(setting, told):
    argv = ["train", f"--config={CONFIG}", setting]
    with fresh_flags(), mock.patch.object(sys, "argv", argv):
        importlib.import_module("launch.train")
        with pytest.raises(SystemExit) as caught:
            importlib.import_module("launch.flags")._parse(argv)
    assert str(caught.value) == f"ConfigError: {told}"
