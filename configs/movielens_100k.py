"""MovieLens 100K, split by time: ratings of 4 and 5 are positive, of 1 and 2 negative.

  python -m launch.train --config=configs/movielens_100k.py --workdir=runs/movielens_100k

Needs ml-100k under $NEGFLAX_DATA_DIR. About half a minute on a CPU. Small: the test period holds
some 150 users, so that intervals are wide; for a claim take a larger set.
"""

from negflax import config as negflax_config


def get_config():
    """The run."""
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
