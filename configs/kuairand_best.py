"""KuaiRand-Pure (mini) with a memory of the whole history, and without candidates already seen.

  python -m launch.train --config=configs/kuairand_best.py --workdir=runs/kuairand_best

As configs/kuairand.py but for two settings. In most of its log a user's taste hardly changes, so
what was watched long ago says as much as what was watched last.
"""

from negflax import config as negflax_config


def get_config():
    """Returns the config."""
    config = negflax_config.shipped("kuairand")
    config.name = "kuairand_best"
    config.model.encoder = "gru_memory"
    config.loss.exclude_seen = True
    return config
