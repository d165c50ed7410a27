"""Serving: a trained run as a recommender."""

from negflax.serve.lists import ModelError
from negflax.serve.recommender import TrainedRecommender

__all__ = ["ModelError", "TrainedRecommender"]
