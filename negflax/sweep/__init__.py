"""Sweeps: grids of settings, populations that train together, and the front of their results."""

from negflax.sweep.grid import grid, parse_grid, runs_together
from negflax.sweep.population_run import at_most, train_population

__all__ = ["at_most", "grid", "parse_grid", "runs_together", "train_population"]
