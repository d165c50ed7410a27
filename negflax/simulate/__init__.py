"""Experiments on simulated users: responsiveness, live experiments, realism of the simulation.

`responsiveness` measures how lists change after a dislike: `pairs` draws the histories, `walk`
computes the lists, `measures` compares them. In `live`, arms serve users day by day and retrain on
their own logs. `log_statistics` compares the simulated log with a real one.
"""
