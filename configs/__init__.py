"""One file per run, each with get_config(); its docstring has the command, time and result."""
