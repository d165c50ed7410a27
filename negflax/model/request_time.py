"""The time of a request as context: known when a list is asked for, before its item is.

    s' = s ⊙ (1 + W c) + U c

c are the embeddings of the request's gap to the user's last event, its hour and its weekday
(features.request_codes), W and U start at 0: a latent cross (Beutel et al. 2018) and a projection,
at the state and not at its inputs. So the encoder reads events alone, and one state answers
requests at any time.

Shapes: R request features, F their width together, D width of a state.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from negflax.config import ModelConfig
from negflax.data.features import REQUEST_VALUES
from negflax.model.encoders.products import matmul

Parameters = dict[str, Any]
_COLUMNS = {name: column for column, name in enumerate(REQUEST_VALUES)}


def init(config: ModelConfig, key: jax.Array) -> Parameters:
    """Start values, with which the time changes nothing."""
    names, dtype = config.request, jnp.dtype(config.dtype)
    width = config.feature_dim * len(names)
    embeddings = {
        name: jax.random.normal(
            jax.random.fold_in(key, _COLUMNS[name]),
            (REQUEST_VALUES[name], config.feature_dim),
            dtype,
        )
        for name in names
    }
    zeros_FD = jnp.zeros((width, config.embedding), dtype)
    return {"embeddings": embeddings, "cross": zeros_FD, "shift": zeros_FD}


def apply(
    parameters: Parameters, states: jax.Array, codes: jax.Array | None, config: ModelConfig
) -> jax.Array:
    """States (…, D) as they answer requests at the times of the codes (…, R).

    Raises:
      ValueError: there are no codes.
    """
    if codes is None:
        raise ValueError(
            f"config.model.request = {config.request}: the times of the requests are not known "
            "here; use a model without config.model.request"
        )
    tables = parameters["embeddings"]
    context = jnp.concatenate(
        [tables[name][codes[..., _COLUMNS[name]]] for name in config.request], axis=-1
    )
    scale = 1 + matmul(context, parameters["cross"])
    return states * scale + matmul(context, parameters["shift"])
