"""From feedback events to training batches.

schema.py and cells.py say what an event log is and check it; event_files.py and sources.py read it;
rules.py, signals.py and labelling.py turn feedback into label weights; splits.py, catalogue.py,
features.py, event_arrays.py and sequences.py build per-user arrays, parts.py for logs larger than
memory, and histories.py those to serve from; data_report.py says what was found; inputs.py,
cache.py and column_files.py keep them on disk; batches.py and prefetch.py feed the device.
columns.py converts columns.

inspect/ shows and judges a data set; it is imported by name.
"""

from negflax.data.batch import Batch
from negflax.data.batches import StreamBatches, history_batch
from negflax.data.cache import open_sequences
from negflax.data.catalogue import Catalogue
from negflax.data.cells import DataError
from negflax.data.event_files import read_events, require_suffix, write_table
from negflax.data.histories import build_histories
from negflax.data.labelling import label_weights
from negflax.data.prefetch import prefetch
from negflax.data.rules import Condition, Rule, parse_rule
from negflax.data.schema import SPLITS, validate, validate_items
from negflax.data.sequences import Sequences, build_sequences
from negflax.data.sources import RawData, open_source
from negflax.data.vocabulary_growth import grow

__all__ = [
    "SPLITS",
    "Batch",
    "Catalogue",
    "Condition",
    "DataError",
    "RawData",
    "Rule",
    "Sequences",
    "StreamBatches",
    "build_histories",
    "build_sequences",
    "grow",
    "history_batch",
    "label_weights",
    "open_sequences",
    "open_source",
    "parse_rule",
    "prefetch",
    "read_events",
    "require_suffix",
    "validate",
    "validate_items",
    "write_table",
]
