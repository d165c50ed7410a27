"""MovieLens 100K as sequences of rated films, leave-one-out: a small set that has times.

  python -m launch.train --config=configs/ml100k_sequences.py --workdir=runs/ml100k_sequences
  python -m launch.train --config=configs/ml100k_sequences.py --workdir=runs/ml100k_timed \
    --config.model.request="gap,hour,weekday"

The second run knows the time of each request, as configs/ml1m_sequences.py cannot: its data has no
times. Needs ml-100k under $NEGFLAX_DATA_DIR. Ratings of one second keep the order of the file, by
item. Takes about a minute on a CPU; docs/results.md has the figures.
"""

from negflax import config as negflax_config


def get_config():
    """Returns the config."""
    config = negflax_config.shipped("ml1m_sequences_full")
    config.name = "ml100k_sequences"
    config.data.source = "movielens_100k"
    config.labels.positive = ("rating >= 1",)
    config.batch.length = 100
    config.model.hidden = 64
    config.model.embedding = 64
    config.model.dropout_input = 0.4
    config.model.dropout_output = 0.4
    config.optimizer.learning_rate = 5e-3
    config.optimizer.table_learning_rate = 5e-3
    config.train.epochs = 20.0
    return config
