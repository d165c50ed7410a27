"""Your own event log: docs/your_own_logs.md walks through it.

  python -m launch.train --config=configs/event_log.py --config.data.path=my_events.csv \
    --workdir=runs/mine

The log has the columns user_id, item_id, timestamp_ms and the signals that the label rules name.
The settings, in negflax/config/event_log.py, suit some thousand events. Behind a colon stands how
many there are, as in --config=configs/event_log.py:100000: from 50,000 on steps are larger, and
from two million on settings are those of negflax/config/. negflax.fit counts for itself.

Expected of MovieLens 100K, in about a minute on two CPU cores: HR_p@10 .66 to .67, NDCG_p@10 .188
to .195, HR_n@10 .144 to .148 (seeds 0 to 2), where EASE has .61, .178, .094 (docs/results.md):

  python -m launch.train --config=configs/event_log.py:100000 --workdir=runs/ml100k \
    --config.data.source=movielens_100k --config.data.split=user_fraction \
    --config.data.test_fraction=.2 --config.labels.positive="rating >= 4" \
    --config.labels.negative="rating <= 2"
"""

from negflax import config as negflax_config


def get_config(num_events="0"):
    """The run, for a log of about so many events."""
    return negflax_config.defaults(negflax_config.event_log_defaults(int(num_events)))
