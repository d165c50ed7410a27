"""KuaiRand-Pure (mini): short-video feedback with long views, likes, skips and hates.

  python -m launch.train --config=configs/kuairand.py --workdir=runs/kuairand

Needs kuairand-pure-mini under $NEGFLAX_DATA_DIR. Trains before 2022-04-29 (UTC+8), validates on
29-30 April (best step), trains anew on both for as many epochs, and scores May once. About five
minutes on two CPU cores. Test period: HR_p@10 .20, NDCG_p@10 .060, HR_n@10 .13, where popularity
has .13, .040, .08, EASE .21, .062, .12 and positives only have .22, .067, .16.
"""

from negflax import config as negflax_config


def get_config():
    """The run."""
    config = negflax_config.defaults()
    config.name = "kuairand"
    config.data.source = "kuairand_mini"
    config.data.split = "column"
    # A short play is a skip in the single-column feed alone; a hate is explicit. Without the other
    # signals of the later days, "no long view" in the history part says little: weight 0.
    config.labels.positive = ("long_view", "like")
    config.labels.negative = ("dislike", "skip", "weak_negative: 0")
    config.batch.rows = 32
    config.batch.length = 100
    config.model.features = ("dislike", "dwell", "watch_ratio", "gap", "surface", "cluster")
    config.train.epochs = 6.0
    config.train.eval_every = 200
    config.train.checkpoint_every = 200
    config.train.patience = 4
    config.train.refit = True
    return config
