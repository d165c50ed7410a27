"""negflax: sequential recommenders that learn from what people do not want, in JAX."""

__version__ = "0.1.0"
