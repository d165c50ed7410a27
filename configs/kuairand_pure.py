"""KuaiRand in its original distribution: Pure; with two more settings, 1K or 27K.

  python -m launch.prepare --data_set=kuairand/pure --manual_dir=downloads --data_dir=data
  python -m launch.train --config=configs/kuairand_pure.py --config.data.root=data \
    --workdir=runs/kuairand_pure

The split is that of configs/kuairand.py: training before 2022-04-29 (UTC+8), validation on 29-30
April, training again on both, evaluation on May once. Time and metrics were not measured, as the
archive was not available. For 1K (4 million videos) and 27K (32 million) add
--config.data.source=kuairand/1k and --config.loss.candidates=uniform.
"""

from negflax import config as negflax_config


def get_config():
    """Returns the config."""
    config = negflax_config.defaults()
    config.name = "kuairand_pure"
    config.data.source = "kuairand/pure"
    config.data.valid_from = "2022-04-29T00:00:00+08:00"
    config.data.test_from = "2022-05-01T00:00:00+08:00"
    config.labels.positive = ("long_view", "like")
    config.labels.negative = ("dislike", "skip")
    config.model.features = ("dislike", "dwell", "watch_ratio", "gap", "surface", "cluster")
    config.train.epochs = 6.0
    config.train.patience = 4
    config.train.refit = True
    return config
