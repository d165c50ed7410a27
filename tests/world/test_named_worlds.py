"""Named worlds: what a name sets, what overrides it, and items that many users dislike."""

from __future__ import annotations

import typing

import jax
import numpy as np
import pytest

from negflax.config import Config, WorldConfig, from_config_dict, to_dict
from negflax.world import NAMED_WORLDS, Parameters, draw_population, generate, mechanisms

SMALL = dict(num_users=2_000, num_items=200, num_creators=30, num_clusters=10, steps=30)


def test_the_config_knows_every_name_and_each_has_a_reason():
    names = typing.get_args(typing.get_type_hints(WorldConfig)["name"])
    assert names == tuple(NAMED_WORLDS)
    assert all(world.reason.endswith((".", ").")) for world in NAMED_WORLDS.values())


@pytest.mark.parametrize("name", NAMED_WORLDS)
def test_a_name_sets_its_mechanisms_and_no_other(name):
    world, found = NAMED_WORLDS[name], vars(mechanisms(WorldConfig(name=name)))
    usual = vars(mechanisms(WorldConfig(dislikes=world.dislikes)))
    kept = {key: value for key, value in found.items() if key not in world.parameters}
    assert all(found[key] == pytest.approx(value) for key, value in world.parameters.items())
    assert all(value == usual[key] for key, value in kept.items())


def test_the_default_is_heedless_and_it_is_the_parameters_as_they_stand():
    assert mechanisms(WorldConfig(platform_reacts=True)) == Parameters()
    assert NAMED_WORLDS[WorldConfig().name].parameters == {} == NAMED_WORLDS["heedless"].parameters


def test_keys_of_the_config_override_the_name():
    changed = WorldConfig(
        name="loose",
        parameters=("aversion_loss = 2", "reaction_creator = 1"),
        platform_reacts=True,
        dislike_rate=0.01,
    )
    p, named = mechanisms(changed), mechanisms(WorldConfig(name="loose"))
    assert (p.aversion_loss, p.reaction_creator) == (2.0, 1.0)
    assert p.reaction_cluster == Parameters().reaction_cluster > named.reaction_cluster == 0
    assert p.dislike_cluster == pytest.approx(0.2 * named.dislike_cluster)
    assert mechanisms(WorldConfig(name="loose", dislikes="random")).dislike_cluster == 0
    quiet = WorldConfig(name="reacting", parameters=("reaction_cluster=0", "reaction_creator=0"))
    assert mechanisms(quiet).reaction_cluster == mechanisms(quiet).reaction_creator == 0


def test_a_stored_config_without_a_name_is_the_default_world():
    stored = to_dict(Config())
    del stored["world"]["name"]
    assert from_config_dict(stored).world == WorldConfig()


def test_the_items_factor_changes_nothing_else():
    spread = ("dislike_item_spread = 0.67",)
    plain, varied = (
        draw_population(config, mechanisms(config))
        for config in (WorldConfig(**SMALL), WorldConfig(**SMALL, parameters=spread))
    )
    for name, one in plain.items._asdict().items():
        if name != "disliked_I":
            np.testing.assert_array_equal(one, getattr(varied.items, name))
    jax.tree.map(np.testing.assert_array_equal, plain.users, varied.users)
    np.testing.assert_array_equal(plain.items.disliked_I, 1)
    factor = np.asarray(draw_population(WorldConfig(), mechanisms(_loose())).items.disliked_I)
    assert factor.mean() == pytest.approx(1, abs=0.05)
    assert factor.std() / factor.mean() == pytest.approx(0.75, abs=0.08)  # KuaiRand's


def _loose() -> WorldConfig:
    return WorldConfig(name="loose")


def test_some_items_are_disliked_by_many_and_watched_like_others():
    events, _ = generate(WorldConfig(name="control", **SMALL))
    count = SMALL["num_items"]
    item, dislike, long_view = (
        events[name].to_numpy(zero_copy_only=False) for name in ("item_id", "dislike", "long_view")
    )
    shown = np.bincount(item, minlength=count)
    often = shown >= 100
    rate = {
        name: (np.bincount(item, x, count) / np.maximum(shown, 1))[often]
        for name, x in (("dislike", dislike), ("long_view", long_view))
    }
    assert dislike.mean() == pytest.approx(0.05, abs=0.01)
    assert rate["dislike"].std() / rate["dislike"].mean() > 0.5
    assert abs(np.corrcoef(rate["dislike"], rate["long_view"])[0, 1]) < 0.3
