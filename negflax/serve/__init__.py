"""Serving: a trained run as a recommender."""

from negflax.serve.scoring import ModelError
from negflax.serve.trained import TrainedRecommender

__all__ = ["ModelError", "TrainedRecommender"]
