"""Every setting of a run, its default and its meaning: the one place for each default.

`defaults()` is what a file in configs/ starts from and overrides; `from_config_dict` turns the
result into frozen dataclasses, once, and names the key of anything it does not accept.

data.py, model.py, loss.py, train.py and evaluate.py hold the sections, run.py a whole run;
reading.py builds it, checks.py and choices.py say what is accepted.
"""

from negflax.config.choices import FEATURES, POSITIVES_ONLY
from negflax.config.data import BatchConfig, DataConfig, LabelConfig, WorldConfig
from negflax.config.errors import ConfigError
from negflax.config.evaluate import EvalConfig
from negflax.config.event_log import event_log_defaults
from negflax.config.loss import LossConfig
from negflax.config.model import ModelConfig
from negflax.config.reading import from_config_dict
from negflax.config.run import FORMAT_VERSION, Config, defaults, to_dict
from negflax.config.train import MeshConfig, OptimizerConfig, TrainConfig

__all__ = [
    "FEATURES",
    "FORMAT_VERSION",
    "POSITIVES_ONLY",
    "BatchConfig",
    "Config",
    "ConfigError",
    "DataConfig",
    "EvalConfig",
    "LabelConfig",
    "LossConfig",
    "MeshConfig",
    "ModelConfig",
    "OptimizerConfig",
    "TrainConfig",
    "WorldConfig",
    "defaults",
    "event_log_defaults",
    "from_config_dict",
    "to_dict",
]
