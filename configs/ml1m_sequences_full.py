"""ML-1M without ratings, leave-one-out, with the full softmax: better than samples of this size.

  python -m launch.train --config=configs/ml1m_sequences_full.py --workdir=runs/ml1m_full

As configs/ml1m_sequences.py, but every label is compared with all 3,416 items, less those that the
user has had (no one rates a film twice), and Adam moves every row.
docs/results.md has the figures.
"""

from negflax import config as negflax_config


def get_config():
    """Returns the config."""
    config = negflax_config.shipped("ml1m_sequences")
    config.name = "ml1m_sequences_full"
    config.loss.candidates = "full"
    config.loss.exclude_seen = True
    config.optimizer.tables = "dense_adam"
    config.optimizer.learning_rate = 8e-3
    config.optimizer.table_learning_rate = 8e-3
    config.model.dropout_input = 0.25
    config.model.dropout_output = 0.25
    config.train.epochs = 9.0
    return config
