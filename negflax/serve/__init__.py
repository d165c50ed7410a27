"""Serving: a trained run as a recommender, lists for many users and sessions of single ones."""

from negflax.serve.list_rules import ListRules
from negflax.serve.one_event import EventError
from negflax.serve.scoring import ModelError
from negflax.serve.session import Session
from negflax.serve.session_bytes import StateError
from negflax.serve.trained import TrainedRecommender

__all__ = [
    "EventError",
    "ListRules",
    "ModelError",
    "Session",
    "StateError",
    "TrainedRecommender",
]
