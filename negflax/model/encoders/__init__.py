"""Encoders by name: events of a user → states that item vectors are multiplied with.

config.model.encoder names the class. One of your own is registered once, where a module of yours is
imported, and is then trained, saved, loaded and served like the GRU (docs/extending.md)::

    class Average(nnx.Module):
        def __init__(self, config, feature_sizes, *, rngs): ...
        def __call__(self, items_BTD, feature_ids, feature_vectors, reset_BT, *,
                     start=None, dropout_seed=None, first_row=0):
            return states_BTD, last

    negflax.register_encoder("average", Average)

The constructor takes the model section (`config.embedding` is D, `config.features` the features,
each of width `config.feature_dim`, `config.dtype` the dtype of parameters and states), and how many
values each dense feature has. The class is a flax.nnx.Module and holds parameters (nnx.Param)
alone, in plain attributes, nnx.Dict or nnx.List; randomness comes from `dropout_seed`.

`__call__` is traced by JAX and gets

    items_BTD        input vectors of B rows of T events, of about unit variance
    feature_ids      name → (B, T) integers, for the features in `feature_sizes`
    feature_vectors  name → (B, T, feature_dim) vectors, for the other ones of `config.features`
    reset_BT         True where a new user begins: nothing before it may reach the states after
    start            `last` of an earlier call whose events come right before; None: no events
    dropout_seed     uint32 scalar, new each step; None where nothing is dropped
    first_row        place of row 0 in the batch over all devices, for negflax.model.dropout

and returns (states_BTD, last). The states after each event have width D and dtype `config.dtype`,
and depend on this event and earlier ones only; `last` is what it needs to go on later, any tree of
arrays whose first axis is B.
"""

from __future__ import annotations

import inspect

import jax
import jax.numpy as jnp
from flax import nnx

from negflax import config as configs
from negflax.config import ConfigError, ModelConfig
from negflax.model.encoders.attention import Attention
from negflax.model.encoders.gru import GRU
from negflax.model.encoders.gru_memory import GRUMemory
from negflax.model.encoders.linear_recurrence import RGLRU
from negflax.model.encoders.recurrent import CFN, LSTM

_ENCODERS: dict[str, type[nnx.Module]] = {
    "gru": GRU,
    "gru_memory": GRUMemory,
    "lstm": LSTM,
    "cfn": CFN,
    "rglru": RGLRU,
    "attention": Attention,
}
_CALL = ("start", "dropout_seed", "first_row")


def register_encoder(name: str, cls: type[nnx.Module]) -> None:
    """Makes `name` a choice of config.model.encoder, for training, saving and loading.

    Call it where a module of yours is imported: before the config is checked, and again before a
    run with that encoder is loaded.

    Args:
      name: a letter, then letters, digits, `_`, `.` or `-`.
      cls: a class as negflax/model/encoders/__init__.py describes it.

    Raises:
      ConfigError: the name is built in or another module's, or the class takes other arguments.
    """
    said = f"negflax.register_encoder({name!r}, …)"
    if not (isinstance(cls, type) and issubclass(cls, nnx.Module)):
        raise ConfigError(f"{said}: give a class that inherits from flax.nnx.Module")
    for function, positional, named in (
        (cls.__init__, ("config", "feature_sizes"), ("rngs",)),
        (cls.__call__, ("items_BTD", "feature_ids", "feature_vectors", "reset_BT"), _CALL),
    ):
        try:
            inspect.signature(function).bind(None, *positional, **dict.fromkeys(named))
        except TypeError as error:
            raise ConfigError(
                f"{said}: {cls.__name__}.{function.__name__} must take (self, "
                f"{', '.join(positional)}, *, {', '.join(named)}): {error}"
            ) from error
    configs.ENCODERS.add(name, None, configs.calling_module())
    _ENCODERS[name] = cls


def build(config: ModelConfig, feature_sizes: dict[str, int], key: jax.Array) -> nnx.Module:
    """The encoder that config.model.encoder names, with start values.

    Raises:
      ConfigError: the name is not registered; the message lists what is.
    """
    if config.encoder not in _ENCODERS:
        raise ConfigError(configs.ENCODERS.unknown(config.encoder))
    return _ENCODERS[config.encoder](config, feature_sizes, rngs=nnx.Rngs(params=key))


def graph_of(config: ModelConfig, feature_sizes: dict[str, int]) -> nnx.GraphDef:
    """The encoder without its parameters, held to its shapes; nothing is computed.

    Raises:
      ConfigError: see `build`; or it holds something else than parameters, or returns other states
        than (B, T, D) of config.dtype.
    """
    said = f"config.model.encoder = {config.encoder!r}"
    graph, parameters = nnx.split(
        nnx.eval_shape(lambda: build(config, feature_sizes, jax.random.key(0)))
    )
    for path, variable in nnx.to_flat_state(parameters):
        if not isinstance(variable, nnx.Param):
            raise ConfigError(
                f"{said} has a {type(variable).__name__} at {'.'.join(map(str, path))}: encoders "
                "may have only nnx.Param; for dropout use negflax.model.dropout with dropout_seed"
            )
    rows, steps, width = 2, 3, config.embedding
    ids = {name: jnp.zeros((rows, steps), jnp.int32) for name in feature_sizes}
    vectors = {
        name: jnp.zeros((rows, steps, config.feature_dim), config.dtype)
        for name in config.features
        if name not in feature_sizes
    }
    found = jax.eval_shape(
        lambda parameters, *inputs: nnx.merge(graph, parameters)(*inputs),
        parameters,
        jnp.zeros((rows, steps, width), config.dtype),
        ids,
        vectors,
        jnp.zeros((rows, steps), bool),
    )
    if not isinstance(found, tuple) or len(found) != 2:
        raise ConfigError(f"{said} returns a {type(found).__name__}: return (states_BTD, last)")
    states, last = found
    if states.shape != (rows, steps, width) or states.dtype != config.dtype:
        raise ConfigError(
            f"{said} returns states {states.dtype}{list(states.shape)} for {rows} rows of {steps} "
            f"events: {config.dtype}[{rows}, {steps}, {width}] is needed, whose width is "
            "config.model.embedding"
        )
    if any(x.shape[:1] != (rows,) for x in jax.tree.leaves(last)):
        raise ConfigError(f"{said}: the first axis of every array of `last` must be the rows")
    return graph
