"""Every setting of a run, its default and its meaning: the one place for each default.

`defaults()` is what a file in configs/ starts from and overrides; `from_config_dict` turns the
result into frozen dataclasses, once, and names the key of anything it does not accept.

data.py, model.py, loss.py, train.py, evaluate.py and feedback_calibration.py hold the sections,
whose types say what a setting may be (kinds.py), and config.py a whole run; reading.py builds it,
checks.py checks it. registry.py holds the names of objectives and encoders, to which users add
their own.
"""

from negflax.config.checks import check
from negflax.config.config import FORMAT_VERSION, Config, defaults, to_dict
from negflax.config.data import BatchConfig, DataConfig, LabelConfig, WorldConfig
from negflax.config.errors import ConfigError
from negflax.config.evaluate import EvalConfig, measured
from negflax.config.event_log import event_log_defaults
from negflax.config.feedback_calibration import CalibrationConfig
from negflax.config.loss import OBJECTIVES, POSITIVES_ONLY, LossConfig, Traits, positives_only
from negflax.config.model import ENCODERS, FEATURES, ModelConfig
from negflax.config.reading import from_config_dict, parse_tuple
from negflax.config.registry import calling_module
from negflax.config.shipped import shipped, shipped_path
from negflax.config.train import MeshConfig, OptimizerConfig, TrainConfig

__all__ = [
    "ENCODERS",
    "FEATURES",
    "FORMAT_VERSION",
    "OBJECTIVES",
    "POSITIVES_ONLY",
    "BatchConfig",
    "CalibrationConfig",
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
    "Traits",
    "WorldConfig",
    "calling_module",
    "check",
    "defaults",
    "event_log_defaults",
    "from_config_dict",
    "measured",
    "parse_tuple",
    "positives_only",
    "shipped",
    "shipped_path",
    "to_dict",
]
