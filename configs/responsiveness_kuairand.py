"""The arms of docs/responsiveness.md on real data, where the signal is a skip.

  python -m launch.train --config=configs/responsiveness_kuairand.py:input_and_label --test=false \
    --workdir=runs/real/input_and_label/seed0

Explicit dislikes are some two hundred in that log; skips are two fifths of the events that have
dwell times. A skip is an input by its dwell time and watch ratio, so `no_signal` has neither. Needs
kuairand-pure-mini under $NEGFLAX_DATA_DIR; about three CPU minutes a run.
"""

from negflax import config as negflax_config

FEATURES = {
    "no_signal": ("gap", "surface", "cluster"),
    "input_only": ("dislike", "dwell", "watch_ratio", "gap", "surface", "cluster"),
    "input_and_label": ("dislike", "dwell", "watch_ratio", "gap", "surface", "cluster"),
}


def get_config(arm: str = "input_and_label"):
    """The recipe; the arms differ in the inputs that tell a skip, and in the objective."""
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
    config.train.splits = ("train", "valid")  # nothing is chosen, and skips begin late in the log
    config.eval.history = 64
    return config
