"""What a config makes of its data: figures, and findings that a user should know of."""
