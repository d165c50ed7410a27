"""Closed-loop experiments: arms serve simulated users and retrain on their own logs."""
