"""Sizes of the random log whose histories are branched."""

from negflax.simulate.responsiveness import Settings
from negflax.simulate.walk import Plan

ITEMS, USERS, CLUSTERS, CREATORS, K = 90, 64, 6, 15, 12
SETTINGS = Settings(pairs=60, plan=Plan(k=K, later=3, length=20, block=32), resamples=500)
