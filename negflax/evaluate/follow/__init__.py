"""Scoring every checkpoint of a live run, from snapshots that the run cannot delete."""
