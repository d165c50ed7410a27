"""Serving: a trained run as a recommender."""

from negflax.serve.recommender import TrainedRecommender

__all__ = ["TrainedRecommender"]
