"""MovieLens 100K, split by time: ratings of 4 and 5 are positive, of 1 and 2 negative.

  python -m launch.train --config=configs/movielens_100k.py --workdir=runs/movielens_100k

Needs ml-100k under $NEGFLAX_DATA_DIR. Takes about half a minute on a CPU. The test period has only
about 150 users, so intervals are wide; use a larger data set for conclusions.
"""

from negflax import config as negflax_config


def get_config():
    """Returns the config."""
    config = negflax_config.defaults()
    config.name = "movielens_100k"
    config.data.source = "movielens_100k"
    config.labels.positive = ("rating >= 4",)
    config.labels.negative = ("rating <= 2",)
    config.batch.rows = 16
    config.model.hidden = 32
    config.model.embedding = 32
    config.model.features = ("dislike", "gap")  # dislike is a rating of 1 or 2
    config.model.dropout_input = 0.3
    config.model.dropout_output = 0.3
    config.train.epochs = 8.0
    config.train.eval_every = 50
    config.train.checkpoint_every = 50
    config.eval.ks = (10,)
    return config
