"""The observer who knows the world: its chances are the world's, and it learns nothing of noise."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negflax.config import Config, WorldConfig
from negflax.data import open_sequences
from negflax.simulate import ideal, ideal_answers, observer
from negflax.simulate.ideal import Aim
from negflax.simulate.measures import similarity
from negflax.world import behaviour, draw_population, mechanisms

SMALL = dict(num_users=150, num_items=120, num_creators=10, num_clusters=5, steps=25)
POSITIVES = Aim()


def log_of(world, folder):
    """A log of the world, and the newest events of some users."""
    log = open_sequences(Config(world=world), folder)
    able_U = np.flatnonzero(np.diff(log.offsets_U1) >= 12)[:60]
    return log, log.offsets_U1[able_U + 1][:, None] + np.arange(-12, 0)


@pytest.fixture(scope="module")
def change(tmp_path_factory):
    """A function (aim, signal, other settings of the world) → change of similarity."""
    world = WorldConfig(**SMALL, dislike_rate=0.07)
    log, event_ST = log_of(world, tmp_path_factory.mktemp("world"))
    item_S, kind_V = log.item_E[event_ST[:, -1]], log.catalogue.clusters_VC[:, 0]

    def of(aim=POSITIVES, signal="dislike", **believed):
        believed = dataclasses.replace(world, **believed)
        lists_2SK = ideal.ideal_lists(log, event_ST, believed, [aim], 10, signal)[aim].lists_2SK
        assert lists_2SK.shape == (2, 60, 10) and lists_2SK.min() >= 1
        for user, events in enumerate(event_ST):
            for row_K in lists_2SK[:, user]:
                assert len(set(row_K)) == 10 and not set(row_K) & set(log.item_E[events])
        before, after = (similarity(x, item_S, kind_V).mean() for x in lists_2SK)
        return after / before - 1

    return of


def test_its_lists_fall_after_a_dislike_and_with_labels_further(change):
    plain = change()
    assert plain < -0.1 and change(Aim(omega=30.0)) < plain
    assert change(Aim(w=1e-9)) == plain > change(Aim(w=30.0))


def test_a_session_that_goes_on_keeps_the_user_bored_and_lists_fall_further(change):
    assert change(Aim(session_goes_on=True)) < change()


def test_its_lists_fall_after_a_skip(change):
    assert change(signal="skip") < -0.1


def test_it_expects_fewer_disliked_clusters_from_a_platform_that_reacts(change):
    assert change(platform_reacts=True) < 1.2 * change() < 0


@pytest.mark.parametrize("aim", [POSITIVES, Aim(omega=3.0), Aim(w=700.0, session_goes_on=True)])
def test_in_the_control_a_dislike_changes_exactly_nothing(aim, tmp_path):
    world = WorldConfig(**SMALL, name="control")
    log, event_ST = log_of(world, tmp_path)
    answer = ideal.ideal_lists(log, event_ST, world, [aim], 10)[aim]
    without, with_dislike = answer.lists_2SK
    assert np.array_equal(*answer.mass_2S2) and (answer.mass_2S2 > 0).all()
    np.testing.assert_array_equal(without, with_dislike)


@pytest.mark.parametrize("name", ["heedless", "loose"])
def test_its_chances_are_those_of_the_worlds_users(name):
    world = WorldConfig(**SMALL | {"num_users": 20_000}, name=name)
    p, population = mechanisms(world), draw_population(world)
    item_U = jnp.full(20_000, 7)
    state = behaviour.first_state(population, p)
    found = jax.jit(behaviour.respond, static_argnums=4)(
        jax.random.key(0), population, state, item_U, p
    )
    affinity_U = behaviour.affinity(population, state, item_U, p)
    duration = population.items.duration_ms_I[7]
    skip_U, long_view_U = observer.behaviour(affinity_U, duration, p)
    dislike_U = observer.dislike(
        *(x.astype(jnp.float32) for x in behaviour.aversions(population, item_U)),
        population.items.disliked_I[item_U],
        p,
    )
    for chance_U, seen_U in ((long_view_U, found.long_view_U), (dislike_U, found.dislike_U)):
        assert float(chance_U.mean()) == pytest.approx(float(seen_U.mean()), abs=0.01)
        high_U = chance_U > jnp.median(chance_U)
        assert float(chance_U[high_U].mean()) == pytest.approx(
            float(seen_U[high_U].mean()), abs=0.02
        )
    assert skip_U.mean() <= found.skip_U.mean() + 0.01  # besides, some swipe later than at once


def test_the_stationary_point_sums_to_1_and_is_eq_of_the_spec():
    rng = np.random.default_rng(0)
    a_I, wb_I = jnp.asarray(rng.random(50)) / 50, jnp.asarray(rng.random(50))
    p_I = ideal_answers.stationary(a_I, wb_I)
    assert float(p_I.sum()) == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(a_I / p_I - wb_I, (a_I / p_I - wb_I)[0], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(ideal_answers.stationary(a_I, 0 * wb_I), a_I / a_I.sum(), rtol=1e-3)
