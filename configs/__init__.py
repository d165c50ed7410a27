"""One file a run, each with get_config(); its docstring gives command, time and result."""
