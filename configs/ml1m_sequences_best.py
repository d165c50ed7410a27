"""ML-1M without ratings, leave-one-out: the most accurate settings found, a GRU of width 256.

  python -m launch.train --config=configs/ml1m_sequences_best.py --workdir=runs/ml1m_best

docs/results.md has the figures.
"""

from negflax import config as negflax_config


def get_config():
    """Returns the config."""
    config = negflax_config.shipped("ml1m_sequences_full")
    config.name = "ml1m_sequences_best"
    config.model.hidden = 256
    config.model.dropout_input = 0.3
    config.model.dropout_output = 0.4
    config.optimizer.learning_rate = 6e-3
    config.optimizer.table_learning_rate = 6e-3
    return config
