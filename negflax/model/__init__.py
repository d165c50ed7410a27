"""The model: features → user states → logits."""

from negflax.model.encoders import register_encoder
from negflax.model.encoders.dropout import dropout
from negflax.model.recommender import Recommender

__all__ = ["Recommender", "dropout", "register_encoder"]
