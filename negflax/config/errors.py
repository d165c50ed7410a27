"""The error that a bad setting raises."""


class ConfigError(ValueError):
    """A setting is unknown, of the wrong type or out of range; the message names its key."""
