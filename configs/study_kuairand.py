"""The comparative study of objectives on the data and model of configs/kuairand.py.

  python -m launch.study --config=configs/study_kuairand.py --workdir=runs/study_kuairand

Every objective has the same number of settings, and five seeds with the chosen one. A repeated
command resumes. Three quarters of the two epochs are shared by all objectives. Takes about 3 CPU
minutes per objective and 15 more; --objectives and --stability select. Results:
docs/choosing_an_objective.md.
"""

from negflax import config as negflax_config


def get_config():
    """Returns the config that every objective starts from."""
    config = negflax_config.shipped("kuairand")
    config.name = "study_kuairand"
    config.train.epochs = 2.0
    config.eval.history = 64
    config.eval.rate_betas = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
    return config
