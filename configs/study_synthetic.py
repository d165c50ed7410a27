"""The comparative study of objectives on the data and model of configs/synthetic.py.

  python -m launch.study --config=configs/study_synthetic.py --workdir=runs/study_synthetic

Every objective has the same number of settings, and five seeds with the chosen one. A repeated
command resumes. Not measured at this size; --quick is a short trial.
"""

from negflax import config as negflax_config


def get_config():
    """Returns the config that every objective starts from."""
    config = negflax_config.shipped("synthetic")
    config.name = "study_synthetic"
    config.eval.rate_betas = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
    return config
