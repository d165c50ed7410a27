"""The command `negflax`: from a file of events to a trained run, and all programs of launch/."""
