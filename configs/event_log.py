"""Your own event log: docs/your_own_logs.md walks through it.

  python -m launch.train --config=configs/event_log.py --config.data.path=my_events.csv \
    --workdir=runs/mine

The log has the columns user_id, item_id, timestamp_ms and the signals that the label rules name.
Batches and warm-ups suit logs from some thousand events; with millions of them, take the defaults
of negflax/config/ (rows 32, length 100, warm-up 200).
"""

from negflax import config as negflax_config


def get_config():
    """The run."""
    config = negflax_config.defaults()
    config.name = "event_log"
    config.data.source = "event_log"
    config.data.path = "my_events.csv"
    config.labels.positive = ("like",)
    config.labels.negative = ("dislike",)
    config.batch.rows = 8
    config.batch.length = 50
    config.model.hidden = 32
    config.model.embedding = 32
    config.loss.positives_only_steps = 100
    config.loss.ramp_steps = 50
    config.train.epochs = 20.0
    config.train.eval_every = 50
    config.train.checkpoint_every = 50
    config.eval.ks = (10,)
    return config
