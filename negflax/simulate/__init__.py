"""Experiments on simulated users: how lists respond to a dislike, and how real the world is.

`responsiveness` measures, on the lists of `walk`, from the histories of `pairs`; `calibration`
holds the simulated log beside a real one.
"""
