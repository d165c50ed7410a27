"""Evaluation of every checkpoint of a running training, from snapshots that it cannot delete."""
