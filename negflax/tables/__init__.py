"""Item tables: rows sharded over the devices, gathered and updated sparsely."""

from negflax.tables.table import (
    TableSpec,
    distinct,
    gather,
    init_rows,
    padded_rows,
    scatter_index,
)
from negflax.tables.updates import RowOptimizer

__all__ = [
    "RowOptimizer",
    "TableSpec",
    "distinct",
    "gather",
    "init_rows",
    "padded_rows",
    "scatter_index",
]
