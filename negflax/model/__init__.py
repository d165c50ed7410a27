"""The model: features → user states → logits."""

from negflax.model.recommender import Recommender

__all__ = ["Recommender"]
