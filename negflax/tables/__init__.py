"""Item tables: rows sharded over the devices, gathered and updated sparsely."""

from negflax.tables.optimizers import RowOptimizer
from negflax.tables.rounding import pack, unpack
from negflax.tables.stored import plain
from negflax.tables.table import (
    TableSpec,
    distinct,
    gather,
    init_rows,
    padded_rows,
    scatter_index,
)

__all__ = [
    "RowOptimizer",
    "TableSpec",
    "distinct",
    "gather",
    "init_rows",
    "pack",
    "padded_rows",
    "plain",
    "scatter_index",
    "unpack",
]
