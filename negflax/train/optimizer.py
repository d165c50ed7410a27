"""Optax for the dense parameters, the learning-rate schedule, and one clip over all of a step."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from negflax.config import OptimizerConfig


def schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Learning rate over its peak: linear warm-up, then `config.schedule` until the last step."""
    warm, rest = config.warmup_steps, max(1, steps - config.warmup_steps)
    decay = {
        "constant": optax.constant_schedule(1.0),
        "linear": optax.linear_schedule(1.0, config.final_fraction, rest),
        "cosine": optax.cosine_decay_schedule(1.0, rest, config.final_fraction),
    }[config.schedule]
    # Counting from 1: the first step moves.
    warmup = optax.linear_schedule(1 / max(1, warm), 1.0, max(1, warm - 1))
    return optax.join_schedules([warmup, decay], [warm])


def dense_optimizer(
    config: OptimizerConfig, relative: optax.Schedule
) -> optax.GradientTransformation:
    """The transformation of the dense gradients, learning rate included."""
    scale = {
        "adam": lambda: optax.scale_by_adam(config.momentum, config.adam_b2),
        "adagrad": lambda: optax.scale_by_rss(config.adagrad_init),
        "sgd": optax.identity,
    }[config.dense]()
    rate = config.learning_rate
    return optax.chain(scale, optax.scale_by_learning_rate(lambda step: rate * relative(step)))


def clip_scale(config: OptimizerConfig, norm: jax.Array) -> jax.Array:
    """What the gradients are multiplied with, given the norm of all of them together."""
    if not config.clip_norm:
        return jnp.ones((), norm.dtype)
    return jnp.where(norm > config.clip_norm, config.clip_norm / norm, 1)


def clip(config: OptimizerConfig, gradient: jax.Array, scale: jax.Array) -> jax.Array:
    """A gradient times `clip_scale`, its elements then bounded by config.clip_value."""
    gradient = gradient * scale
    bound = config.clip_value
    return jnp.clip(gradient, -bound, bound) if bound else gradient
