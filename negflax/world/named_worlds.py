"""Worlds by name: settings of the mechanisms that experiments compare, each with its reason.

A result that holds in one world may be due to that world's assumptions. These differ in the ones
that decide how far lists can respond to a dislike: whether dislikes follow watching, how closely
the logging platform follows interests, and whether it reacts to dislikes. They are frozen: no
model was trained in any of them but `heedless` before they were written down (docs/world.md).

The name comes first. Switches of the config (`dislikes`, `platform_reacts`) add to it, the entries
of `config.world.parameters` replace its values, and `dislike_rate` scales the dislikes of any.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping

from negflax.config import ConfigError, WorldConfig
from negflax.world.parameters import DEFAULT, NOMINAL_DISLIKES, Parameters


@dataclasses.dataclass(frozen=True)
class NamedWorld:
    """How a world differs from the default parameters.

    Attributes:
      reason: what the world is for, in a sentence.
      parameters: name of a mechanism → its value.
      dislikes: as in WorldConfig.
      platform_reacts: as in WorldConfig.
    """

    reason: str
    parameters: Mapping[str, float] = dataclasses.field(default_factory=dict)
    dislikes: str = "taste"
    platform_reacts: bool = False


# As in KuaiRand, items differ in how often they are disliked, and this hardly follows watching.
_ITEMS = {"dislike_item_spread": 0.67}

NAMED_WORLDS = {
    "heedless": NamedWorld(
        "The default. The platform pays no heed to dislikes, and an aversion costs so much watching"
        " that a long view all but refutes it.",
    ),
    "grumble": NamedWorld(
        "Dislikes hardly follow watching, as in KuaiRand: users grumble about what they watch. The"
        " platform follows interests less closely, and few dislikes are accidents.",
        {
            "aversion_loss": 0.375,
            "cluster_personalisation": 1.0,
            "dislike_noise": 0.002,
            **_ITEMS,
        },
    ),
    "loose": NamedWorld(
        "The platform follows interests loosely and a dislike is hardly ever an accident. Chosen"
        " for the published sizes, an ideal response of about −.2 with positives only and −.6 with"
        " dislikes as labels; by the corrected observer it is −.3 and −.7.",
        {
            "aversion_loss": 0.75,
            "cluster_personalisation": 0.75,
            "dislike_noise": 0.001,
            **_ITEMS,
        },
    ),
    "reacting": NamedWorld(
        "The logging platform shows less of what was disliked, by cluster and by creator, so that a"
        " model which imitates the log has to respond.",
        {"reaction_cluster": 1.0, "reaction_creator": 2.0, **_ITEMS},
        platform_reacts=True,
    ),
    "reacting_weakly": NamedWorld(
        "The same with the sizes that Mozilla's audit of a large platform found in 2022: a dislike"
        " prevents 12 % of a topic (odds × exp(−.13)), blocking a channel 43 % (exp(−.56)).",
        {"reaction_cluster": 0.13, "reaction_creator": 0.56, **_ITEMS},
        platform_reacts=True,
    ),
    "control": NamedWorld(
        "Dislikes are a coin with the item's odds: they tell nothing about the user, move no taste"
        " and end no session. The ideal response is exactly 0, and any other is an error.",
        {"taste_learning": 0.0, "exit_dislike": 1.0, **_ITEMS},
        dislikes="random",
    ),
}


def mechanisms(config: WorldConfig, parameters: Parameters = DEFAULT) -> Parameters:
    """Returns the parameters with the name, the overrides and the switches of the config applied.

    `dislike_rate` scales the three probabilities of a dislike by the same factor. With random
    dislikes every event has the probability `dislike_rate`, times the item's factor, whatever the
    user's aversions, and dismissals depend on skips only.

    Raises:
      ConfigError: an entry of config.world.parameters has an unknown name, or no number.
    """
    world = NAMED_WORLDS[config.name]
    overrides = dict(map(_override, config.parameters))
    p = dataclasses.replace(parameters, **{**world.parameters, **overrides})
    if not (config.platform_reacts or world.platform_reacts):
        p = dataclasses.replace(p, reaction_cluster=0.0, reaction_creator=0.0)
    if "random" in (config.dislikes, world.dislikes):
        return dataclasses.replace(
            p,
            dislike_noise=config.dislike_rate,
            dislike_cluster=0.0,
            dislike_creator=0.0,
            dismissal_averse=0.0,
        )
    scale = config.dislike_rate / NOMINAL_DISLIKES
    chances = ("dislike_noise", "dislike_cluster", "dislike_creator")
    return dataclasses.replace(p, **{name: min(1.0, scale * getattr(p, name)) for name in chances})


def _override(text: str) -> tuple[str, float | int]:
    """Parses one entry of config.world.parameters, `name = number`."""
    name, _, number = (part.strip() for part in text.partition("="))
    types = {field.name: type(field.default) for field in dataclasses.fields(Parameters)}
    try:
        return name, types[name](number)
    except KeyError:
        near = difflib.get_close_matches(name, types, n=1)
        hint = f"; did you mean `{near[0]}`?" if near else ""
        raise ConfigError(
            f"config.world.parameters: there is no mechanism `{name}`{hint}"
        ) from None
    except ValueError:
        raise ConfigError(
            f"config.world.parameters: `{text}`: write `{name} = {types[name].__name__}`"
        ) from None
