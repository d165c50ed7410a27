"""Public data sets and your own logs as builders of tensorflow-datasets (extra `tfds`).

Importing this package registers them with `tfds.builder("kuairand/pure", data_dir=…)`; prepared.py
prepares and reads them for training. docs/data_sets.md lists them and says how blocks are stored.
No TensorFlow is needed.
"""

from negflax.data.builders.base import LogBuilder, LogConfig
from negflax.data.builders.event_logs import EventLogs
from negflax.data.builders.kuairand import Kuairand
from negflax.data.builders.kuairec import Kuairec
from negflax.data.builders.mind import Mind
from negflax.data.builders.movielens import MovieLens
from negflax.data.builders.recbole import Recbole
from negflax.data.builders.sequence_text import S3rec, Sasrec
from negflax.data.builders.yambda import Yambda

BUILDERS: dict[str, type[LogBuilder]] = {
    cls.name: cls
    for cls in (Kuairand, Kuairec, Yambda, MovieLens, Mind, Recbole, Sasrec, S3rec, EventLogs)
}

__all__ = ["BUILDERS", "LogBuilder", "LogConfig"]
