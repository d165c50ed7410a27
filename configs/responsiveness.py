"""The arms of docs/responsiveness.md: one recipe with four ways to use dislikes.

  python -m launch.train --config=configs/responsiveness.py:no_signal --workdir=runs/no_signal/seed0
  python -m launch.train --config=configs/responsiveness.py:input_only \
    --workdir=runs/input_only/seed0
  python -m launch.train --config=configs/responsiveness.py:input_and_label \
    --workdir=runs/input_and_label/seed0
  python -m launch.train --config=configs/responsiveness.py:input_then_label \
    --workdir=runs/input_then_label/seed0

For more training seeds, use seed1, … with --config.train.seed=1, …. Then run

  python -m launch.simulate responsiveness \
    --workdir=runs/no_signal,runs/input_only,runs/input_and_label,runs/input_then_label \
    --html=responsiveness.html

In these arms dislikes are an input of the calibration and not of the encoder, whose training hardly
learns what they mean. In `encoder_input_only` and `encoder_input_and_label`, as in the publication,
they are an input of the encoder, and nothing is calibrated.
"""

from negflax import config as negflax_config

FEATURES = ("dislike", "dismissal", "dwell", "watch_ratio", "gap", "creator", "cluster")
ENCODER_ARMS = ("encoder_input_only", "encoder_input_and_label")
ARMS = ("no_signal", "input_only", "input_and_label", "input_then_label", *ENCODER_ARMS)


def get_config(arm: str = "input_and_label"):
    """Returns the config of an arm; arms differ in what reads dislikes and in the objective."""
    if arm not in ARMS:
        raise ValueError(f"configs/responsiveness.py:{arm}: choose from {', '.join(ARMS)}")
    config = negflax_config.defaults()
    config.name = arm
    # Only dislikes are negative labels: skips are eight times as many, and would dominate.
    config.labels.negative = ("dislike",)
    config.model.features = FEATURES if arm in ENCODER_ARMS else FEATURES[1:]
    config.model.feature_dim = 16
    config.model.composed = ("creator", "cluster")
    config.model.latent_cross = True
    config.model.dropout_input = 0.2
    config.model.dropout_output = 0.3
    config.loss.objective = "ntr" if arm.endswith("input_and_label") else "ssm"
    config.loss.omega = 3.0
    config.loss.positives_only_steps = 400  # half of the steps, so that p̄ is from a trained model
    config.loss.ramp_steps = 100
    config.optimizer.learning_rate = 6e-3
    config.train.epochs = 6.0
    config.train.eval_every = 0
    # A dot product cannot lower one cluster alone; counts of feedback by cluster and creator can.
    config.calibration.after_training = arm not in ("no_signal", *ENCODER_ARMS)
    if arm == "input_then_label":  # the model of `input_only`, with dislikes as labels afterwards
        config.calibration.omega = config.loss.omega
    return config
