"""The default run: a seeded simulation of a short-video platform, trained with NTR.

  python -m launch.train --config=configs/synthetic.py --workdir=runs/synthetic

Takes one to two minutes on two CPU cores. Test period: HR_p@10 .45, NDCG_p@10 .13, HR_n@10 .24;
popularity has .30, .07, .26, and EASE .45, .13, .28.
"""

from negflax import config as negflax_config


def get_config():
    """Returns the config."""
    config = negflax_config.defaults()
    config.name = "synthetic"
    # Lists leave out what a user has had, so in training it is no candidate either.
    config.loss.exclude_seen = True
    # Fitted after training, so that a dislike of a topic lowers that topic (docs/calibration.md).
    config.calibration.after_training = True
    return config
