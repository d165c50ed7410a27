"""The comparative study of objectives on the data and model of configs/movielens_100k.py.

  python -m launch.study --config=configs/study_movielens_100k.py --workdir=runs/study_ml

Every objective has the same number of settings, and five seeds with the chosen one. A repeated
command resumes. Takes about ten CPU minutes. Results: docs/choosing_an_objective.md.
"""

from negflax import config as negflax_config


def get_config():
    """Returns the config that every objective starts from."""
    config = negflax_config.shipped("movielens_100k")
    config.name = "study_movielens_100k"
    config.eval.rate_betas = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
    return config
