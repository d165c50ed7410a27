"""Implementations of the log-sum-exp: XLA, and Pallas kernels for Hopper GPUs and TPUs."""
