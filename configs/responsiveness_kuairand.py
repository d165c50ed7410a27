"""The arms of docs/responsiveness.md on real data, with skips as the signal.

  python -m launch.train --config=configs/responsiveness_kuairand.py:input_and_label --test=false \
    --workdir=runs/real/input_and_label/seed0

The log has only about two hundred explicit dislikes; skips are two fifths of the events with dwell
times. Dwell time and watch ratio show a skip to the model, so `no_signal` has neither. Needs
kuairand-pure-mini under $NEGFLAX_DATA_DIR; takes about three CPU minutes per run.
"""

from negflax import config as negflax_config

FEATURES = {
    "no_signal": ("gap", "surface", "cluster"),
    "input_only": ("dislike", "dwell", "watch_ratio", "gap", "surface", "cluster"),
    "input_and_label": ("dislike", "dwell", "watch_ratio", "gap", "surface", "cluster"),
}


def get_config(arm: str = "input_and_label"):
    """Returns the config of an arm; arms differ in inputs that show skips, and the objective."""
    if arm not in FEATURES:
        raise ValueError(f"configs/responsiveness_kuairand.py:{arm}: one of {', '.join(FEATURES)}")
    config = negflax_config.shipped("kuairand")
    config.name = arm
    config.model.features = FEATURES[arm]
    config.model.composed = ("cluster",)  # 7,583 items have 6,510 creators
    config.model.latent_cross = True
    config.loss.objective = "ntr" if arm == "input_and_label" else "ssm"
    config.train.epochs = 3.0
    config.train.eval_every = 0
    config.train.refit = False
    config.train.splits = ("train", "valid")  # nothing is tuned, and skips begin late in the log
    config.eval.history = 64
    return config
