"""Live experiments on the simulated platform: world, model and training of all arms.

  python -m launch.simulate live --config=configs/live.py --workdir=runs/live

Takes about half a CPU hour per seed: two surfaces, nine arms, 14 simulated days (docs/live.md).
"""

from negflax import config as negflax_config


def get_config():
    """Returns the config that the arms of launch/live.py have in common."""
    config = negflax_config.shipped("synthetic")
    config.name = "live"
    config.world.num_users = 3_000
    config.world.num_items = 2_000
    config.world.num_creators = 320
    # Dislikes are an input of the calibration alone, as in configs/responsiveness.py.
    config.model.features = ("dwell", "watch_ratio", "gap", "creator", "cluster")
    config.model.feature_dim = 16
    config.model.composed = ("creator", "cluster")
    config.model.latent_cross = True
    config.model.dropout_input = 0.2  # as in configs/responsiveness.py
    config.model.dropout_output = 0.3
    config.calibration.after_training = True  # after each training of an arm that sees dislikes
    config.optimizer.learning_rate = 6e-3
    config.loss.omega = 3.0
    config.loss.exclude_seen = False  # as docs/live.md was measured
    config.train.epochs = 10.0
    config.train.eval_every = 0
    return config
