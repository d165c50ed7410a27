"""Your own event log (docs/your_own_logs.md).

  python -m launch.train --config=configs/event_log.py --config.data.path=my_events.csv \
    --workdir=runs/mine

The log needs the columns user_id, item_id, timestamp_ms and the signals of the label rules. The
settings, in negflax/config/event_log.py, suit a few thousand events. For larger logs give the
number of events after a colon, as in --config=configs/event_log.py:100000: from 50,000 on batches
are larger, and from two million on the settings are the defaults of negflax/config/. negflax.fit
counts the events itself.

Example: MovieLens 100K takes about a minute on two CPU cores and has HR_p@10 .66 to .67, NDCG_p@10
.188 to .195, HR_n@10 .144 to .148 (seeds 0 to 2); EASE has .61, .178, .094 (docs/results.md):

  python -m launch.train --config=configs/event_log.py:100000 --workdir=runs/ml100k \
    --config.data.source=movielens_100k --config.data.split=user_fraction \
    --config.data.test_fraction=.2 --config.labels.positive="rating >= 4" \
    --config.labels.negative="rating <= 2"
"""

from negflax import config as negflax_config


def get_config(num_events="0"):
    """Returns the config for a log of about `num_events` events."""
    return negflax_config.defaults(negflax_config.event_log_defaults(int(num_events)))
