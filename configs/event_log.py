"""Your own event log: docs/your_own_logs.md walks through it.

  python -m launch.train --config=configs/event_log.py --config.data.path=my_events.csv \
    --workdir=runs/mine

The log has the columns user_id, item_id, timestamp_ms and the signals that the label rules name.
The settings, in negflax/config/event_log.py, suit logs from some thousand events; with millions of
them, take the defaults of negflax/config/ (rows 32, length 100, warm-up 200), as negflax.fit does.
"""

from negflax import config as negflax_config


def get_config():
    """The run."""
    return negflax_config.defaults(negflax_config.event_log_defaults())
