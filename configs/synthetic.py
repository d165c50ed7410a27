"""The embedded default: a seeded synthetic short-video platform, trained with NTR.

python -m launch.train --config=configs/synthetic.py --workdir=runs/synthetic
"""

from negflax import config as negflax_config


def get_config():
    """The run."""
    config = negflax_config.defaults()
    config.name = "synthetic"
    return config
