"""Experiments on simulated users: how lists respond to a dislike, and how real the world is."""
