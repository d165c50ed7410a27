"""Programs: python -m launch.NAME."""
