"""MovieLens 1M (or another size) in its original distribution, split by time.

  python -m launch.prepare --data_set=movie_lens/1m --manual_dir=downloads --data_dir=data
  python -m launch.train --config=configs/movie_lens.py --config.data.root=data \
    --workdir=runs/movie_lens

Ratings of at least 4 are positive, ratings of at most 2 negative. Another size:
--config.data.source=movie_lens/20m. Time and metrics were not measured, as the archive was not
available; configs/movielens_100k.py has figures for the small data set.
"""

from negflax import config as negflax_config


def get_config():
    """Returns the config."""
    config = negflax_config.defaults()
    config.name = "movie_lens"
    config.data.source = "movie_lens/1m"
    config.labels.positive = ("rating >= 4",)
    config.labels.negative = ("rating <= 2",)
    config.model.features = ("dislike", "gap", "cluster")
    config.train.epochs = 8.0
    config.eval.ks = (10,)
    return config
