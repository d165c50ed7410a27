"""Experiments on simulated users: how lists respond to a dislike, and how real the world is.

`responsiveness` measures, on the lists of `walk`, from the histories of `pairs`; `live` lets arms
serve users day by day, each retrained on its own log; `calibration` holds the simulated log beside
a real one.
"""
