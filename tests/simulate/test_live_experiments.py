"""Live experiments in a tiny world: equal luck, nothing shared between arms, metrics by hand."""

from __future__ import annotations

import dataclasses
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from negflax.calibration import Calibration
from negflax.calibration.counts_on_device import on_device
from negflax.calibration.kind_terms import Scales
from negflax.config import BatchConfig, Config, LossConfig, ModelConfig, TrainConfig, WorldConfig
from negflax.data import features
from negflax.evaluate.baselines.popularity import rate_term
from negflax.simulate.live import closed_loop as live
from negflax.simulate.live import served_day, served_lists, user_log, user_metrics
from negflax.simulate.live.arms import ARMS, PUBLISHED, config_of, reproduced
from negflax.simulate.live.changes import changes
from negflax.simulate.live.live_settings import LiveSettings, replicate
from negflax.simulate.live.served_lists import Plan
from negflax.simulate.live.served_models import Models, count_histories, read_histories
from negflax.simulate.terms_kept import with_terms

USERS, ITEMS, DAYS = 40, 60, 3
CONFIG = Config(
    world=WorldConfig(num_users=USERS, num_items=ITEMS, num_creators=8, num_clusters=5),
    batch=BatchConfig(rows=4, length=20),
    model=ModelConfig(hidden=8, embedding=8, feature_dim=2),
    loss=LossConfig(positives_only_steps=1, ramp_steps=1),
    train=TrainConfig(steps=2, eval_every=0),
)
SETTINGS = LiveSettings(days=DAYS, log_days=16, first_steps=2, retrain_every=2, retrain_steps=2)


@pytest.fixture(scope="module")
def start():
    return live.prepare(CONFIG, SETTINGS)


@pytest.fixture(scope="module")
def models(start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("live")
    return Models(CONFIG, SETTINGS, start.log, start.catalogue, folder)


def same(one, other):
    for part in user_metrics.Sums._fields:
        a, b = getattr(one, part), getattr(other, part)
        assert all(np.array_equal(a[name], b[name], equal_nan=True) for name in a | b)


def test_an_arm_depends_on_no_other_arm(start, models):
    split = start._replace(settings=dataclasses.replace(SETTINGS, split=True))
    first = live.run_arm("input_only", "feed", (0, 1), start, models)
    other = live.run_arm("input_only", "home", (1, 3), split, models)
    again = live.run_arm("input_only", "feed", (0, 1), start, models)
    same(first, again)
    moved = changes([{"a": first, "b": again}], [("a", "b")])["a", "b"]
    assert all(x == (0.0, 0.0, 0.0, (0.0,)) for x in moved.values() if not np.isnan(x.value))

    shares = [live.members(split, (number, 3)) for number in range(3)]
    assert np.array_equal(sum(share.astype(int) for share in shares), np.ones(USERS))
    assert not other.numerator["viewers"][~shares[1]].any()
    assert np.array_equal(other.denominator["viewers"], shares[1])


def calibrated(arm, catalogue):
    """The arm with a calibration, by hand, that puts a cluster down for each dislike in it."""
    values = {"cluster": {"dislike": -20.0, "seen": 0.1}}
    found = with_terms(Calibration("", Scales(3, 5.0, 0.9), values))
    return arm._replace(calibration=on_device(found, catalogue))


def test_states_carried_event_by_event_are_those_of_the_whole_history(start, models):
    config = config_of(CONFIG, ARMS["input_only"])
    state = models.base(True)
    sequences = models.sequences(start.log, config)
    model, arm = models.model(config), models.arm(ARMS["input_only"], config, state, start.log)
    arm = calibrated(arm, start.catalogue)
    state_UD, cell_UH = read_histories(model, arm, sequences, 150)
    counted = count_histories(arm, sequences)
    before = start.live._replace(state_UD=state_UD, cell_UH=cell_UH, counted=counted)
    after, visits = served_day.play_day(
        start.key,
        jnp.int32(SETTINGS.log_days),
        start.population,
        before,
        arm,
        Plan(start.p, model),
    )
    day = user_log.visits_of(SETTINGS.log_days, visits)
    log = user_log.joined([start.log, day])
    whole_UD, whole_UH = read_histories(model, arm, models.sequences(log, config), 150)
    np.testing.assert_allclose(after.state_UD, whole_UD, atol=2e-5)
    np.testing.assert_allclose(after.cell_UH, whole_UH, atol=2e-5)
    again = count_histories(arm, models.sequences(log, config))
    jax.tree.map(np.testing.assert_array_equal, after.counted, again)
    assert (again.age_S > counted.age_S).any()
    assert not np.allclose(after.state_UD, state_UD, atol=1e-3)

    for user in range(USERS):  # nobody is shown again what they played a little while ago
        played = start.log["item"][start.log["user"] == user][-60:]
        new = day["item"][day["user"] == user][: max(0, 60 - len(played))]
        explored = 0.2 * len(new) + 2
        assert np.isin(new, played).sum() <= explored


def test_every_arm_begins_with_the_common_start(start, models, tmp_path):
    settings = dataclasses.replace(SETTINGS, first_steps=0)
    begun = Models(CONFIG, settings, start.log, start.catalogue, tmp_path)
    for sees in (False, True):
        models.base(sees)
    begun._base = models._base
    for name in ("no_signal", "input_and_label", "reinforce"):
        spec = ARMS[name]
        config, state = begun.first(spec)
        base = begun.base(spec.sees)
        head = state["dense"].pop("behaviour_head", None)
        assert (head is not None) == (name == "reinforce") == config.model.behaviour_head
        for part in ("dense", "tables", "step", "weight_sums"):
            assert jax.tree.all(jax.tree.map(np.array_equal, state[part], base[part])), name
        assert config.loss.positives_only_steps == int(base["step"]) + SETTINGS.measuring_steps


def test_arms_start_alike_if_no_encoder_reads_dislikes(start, tmp_path):
    features = tuple(name for name in CONFIG.model.features if name != "dislike")
    blind = dataclasses.replace(CONFIG, model=dataclasses.replace(CONFIG.model, features=features))
    models = Models(blind, SETTINGS, start.log, start.catalogue, tmp_path)
    assert models.base(True) is models.base(False)
    assert not (tmp_path / "sees_dislikes").exists()
    config, _ = models.first(ARMS["input_only"])
    after = dataclasses.replace(CONFIG.calibration, after_training=True)
    for name, calibrated in (("no_signal", False), ("input_only", True)):
        one = dataclasses.replace(config_of(blind, ARMS[name]), calibration=after)
        assert bool(models.arm(ARMS[name], one, models.base(True), start.log).calibration) == (
            calibrated
        )


def test_a_replicate_is_another_world_and_another_training():
    other = replicate(CONFIG, 3)
    assert replicate(CONFIG, 0) == CONFIG
    for section in ("world", "train", "batch"):
        assert getattr(other, section).seed == getattr(CONFIG, section).seed + 3
    alone = {section: getattr(CONFIG, section) for section in ("world", "train", "batch")}
    assert dataclasses.replace(other, **alone) == CONFIG


def test_the_log_as_training_data(start):
    log = start.log
    for name, negative in (("input_only", False), ("input_and_label", True)):
        labels = config_of(CONFIG, ARMS[name]).labels
        found = user_log.sequences_of(log, USERS, start.catalogue, labels)
        user = 7
        mine = np.flatnonzero((log["user"] == user) & (log["item"] >= 0))
        own = slice(*found.offsets_U1[user : user + 2])
        assert np.array_equal(found.item_E[own], log["item"][mine] + 1)
        assert (np.diff(found.time_E[own]) >= 0).all()
        dislike = log["dislike"][mine]
        assert np.array_equal(found.negative_weight_E[own] > 0, dislike & negative)
        assert np.array_equal(found.dismissal_E[own] == 2, log["dismissal"][mine])
        liked = log["long_view"][mine] | log["like"][mine]
        assert np.array_equal(found.positive_weight_E[own] > 0, liked & ~(dislike & negative))
        duration_E = start.catalogue.duration_V[found.item_E]
        order = np.argsort(log["user"], kind="stable")
        dwell_E = log["dwell_ms"][order][log["item"][order] >= 0].astype(float)
        assert np.array_equal(found.dwell_E, features.dwell_codes(dwell_E))
        assert (
            np.mean(found.watch_ratio_E == features.watch_ratio_codes(dwell_E, duration_E)) > 0.999
        )
        first_E = np.isin(np.arange(len(dwell_E)), found.offsets_U1[:-1])
        gap_E = features.gap_codes(found.time_E, first_E)  # of moments rounded to float32
        assert (np.abs(found.gap_E.astype(int) - gap_E) <= 1).all()
        assert np.mean(found.gap_E == gap_E) > 0.9


def test_filters_keep_what_was_disliked_from_the_lists(start, models):
    config = config_of(CONFIG, ARMS["input_only"])
    base, spec = models.base(True), ARMS["input_only"]
    model, arm = models.model(config), models.arm(spec, config, base, start.log)
    state_UD = jnp.asarray(np.random.default_rng(0).normal(size=(USERS, 8)), jnp.float32)
    dropped_UN = jnp.full_like(start.live.dropped_UN, -1).at[:, -3:].set(jnp.arange(3))
    world = start.live.world
    nothing_UR = jnp.full_like(world.shown_UR, -1)
    before = start.live._replace(
        state_UD=state_UD, dropped_UN=dropped_UN, world=world._replace(shown_UR=nothing_UR)
    )
    creator_I = np.asarray(start.population.items.creator_I)
    of_them = np.flatnonzero(np.isin(creator_I, creator_I[:3]))
    online_U = jnp.arange(USERS) % 3 > 0
    layer = dataclasses.replace(Plan.layer, exploration=0.0)
    for block, bad in (("items", np.arange(3)), ("creators", of_them)):
        plan = Plan(start.p, model, "home", block, layer=layer, users_at_a_time=16)

        @jax.jit
        def listed(live, plan=plan):
            return served_lists.lists(start.key, start.population, arm, plan, live, online_U)

        list_UL = np.asarray(listed(before))[np.asarray(online_U)]
        assert not np.isin(list_UL, bad).any()
        unblocked = before._replace(dropped_UN=jnp.full_like(dropped_UN, -1))
        assert np.isin(np.asarray(listed(unblocked)), bad).any()


def test_a_calibration_moves_the_lists_of_those_who_disliked(start, models):
    config = config_of(CONFIG, ARMS["input_only"])
    sequences = models.sequences(start.log, config)
    base, spec = models.base(True), ARMS["input_only"]
    model, plain = models.model(config), models.arm(spec, config, base, start.log)
    arm = calibrated(plain, start.catalogue)
    assert count_histories(plain, sequences) is None
    counted = count_histories(arm, sequences)
    state_UD, cell_UH = read_histories(model, arm, sequences, 150)
    before = start.live._replace(state_UD=state_UD, cell_UH=cell_UH)
    layer = dataclasses.replace(Plan.layer, exploration=0.0, cap=0)
    plan = Plan(start.p, model, "home", layer=layer)
    cluster_I = np.asarray(start.population.items.cluster_I)
    shares = []
    for one, counts in ((plain, None), (arm, counted)):
        list_UL = served_lists.lists(
            start.key,
            start.population,
            one,
            plan,
            before._replace(counted=counts),
            jnp.ones(USERS, bool),
        )
        disliked_UK = np.asarray(counted.stats["cluster"])[:, :, 1] > 0
        hit_UL = disliked_UK[np.arange(USERS)[:, None], cluster_I[np.asarray(list_UL)] + 1]
        shares.append(hit_UL.mean())
    assert shares[1] < 0.5 * shares[0]


def test_an_arm_whose_objective_cannot_be_calibrated_is_served_as_it_is(start, models):
    after = dataclasses.replace(CONFIG.calibration, after_training=True)
    spec = ARMS["ssm_upweighted"]
    config = dataclasses.replace(config_of(CONFIG, spec), calibration=after)
    assert not models.arm(spec, config, models.base(True), start.log).calibration


def test_dislikes_are_labels_of_the_calibration_alone(start, models):
    found = {}
    for name in ("counts", "input_then_label"):
        config = config_of(CONFIG, ARMS[name])
        assert config == config_of(CONFIG, ARMS["input_only"])  # trained alike
        arm = models.arm(ARMS[name], config, models.base(True), start.log)
        found[name] = jax.device_get(arm.calibration["cluster"].values)
    assert found["counts"] != found["input_then_label"]


def test_personal_baselines_add_to_the_scores_of_the_control(start, models):
    spec = ARMS["negative_example"]
    spec = dataclasses.replace(spec, added=spec.added._replace(example_beta=50.0))
    config = config_of(CONFIG, spec)
    assert config == config_of(CONFIG, ARMS["no_signal"])  # trained alike
    model, base = models.model(config), models.base(False)
    plain, arm = (models.arm(x, config, base, start.log) for x in (ARMS["no_signal"], spec))
    assert plain.terms is None
    dropped_UN = jnp.full_like(start.live.dropped_UN, -1).at[:, -1].set(jnp.arange(USERS))
    before = start.live._replace(dropped_UN=dropped_UN)
    layer = dataclasses.replace(Plan.layer, exploration=0.0, cap=0)
    plan, near = Plan(start.p, model, "home", layer=layer), []
    unit_ID = np.asarray(arm.terms.unit_VD)[1:]
    for one in (plain, arm):
        list_UL = served_lists.lists(
            start.key, start.population, one, plan, before, jnp.ones(USERS, bool)
        )
        cosine_UL = np.einsum("uld,ud->ul", unit_ID[np.asarray(list_UL)], unit_ID[:USERS])
        near.append(cosine_UL.mean())
    assert near[1] < near[0] - 0.2

    by_rate = models.arm(ARMS["rate_adjusted"], config, base, start.log).terms
    watched = config_of(CONFIG, ARMS["input_and_label"])  # in which dislikes are the negatives
    expected_V = rate_term(models.sequences(start.log, watched), ("train",), 1.0)
    np.testing.assert_allclose(by_rate.rate_V, expected_V, rtol=1e-6)
    assert expected_V[1:].min() < expected_V[1:].max() < 0


def random_log(rng, visits, days):
    user = rng.integers(0, 6, visits)
    log = {
        "user": user,
        "day": np.sort(rng.integers(0, days, visits)),
        "item": rng.integers(-1, 12, visits),
        "seen": rng.integers(1, 4, visits),
        "dismissals": rng.integers(0, 2, visits),
        "enjoyment": rng.random(visits),
        "dwell_ms": rng.integers(0, 400_000, visits),
        "begins": rng.random(visits) < 0.3,
    }
    return log | {name: rng.random(visits) < 0.4 for name in ("dislike", "skip", "long_view")}


def slow(log, first_day, days, creator_I, cluster_I):
    """The metrics by loops: user → metric → (numerator, denominator)."""
    found = []
    for user in range(6):
        rows = [i for i in range(len(log["user"])) if log["user"][i] == user]
        count, days_with, seen_creators = Counter(), Counter(), {"dislike": set(), "skip": set()}
        items, watched, windows = [], Counter(), {}
        for i in rows:
            item, day, now = log["item"][i], log["day"][i], log["day"][i] >= first_day
            if now:
                count["seen"] += log["seen"][i]
                count["dismissals"] += log["dismissals"][i]
                count["begins"] += log["begins"][i]
                days_with["dismissal", day] += log["dismissals"][i]
            if item < 0:
                continue
            items.append(item)
            for kind in ("dislike", "skip"):
                if log[kind][i]:
                    count["again", kind] += now and creator_I[item] in seen_creators[kind]
                    seen_creators[kind].add(creator_I[item])
            if now:
                count["played"] += 1
                count["dislike"] += log["dislike"][i]
                count["skip"] += log["skip"][i]
                count["satisfied"] += log["long_view"][i] and not log["dislike"][i]
                count["unsatisfied"] += log["skip"][i] or log["dislike"][i]
                count["enjoyment"] += log["enjoyment"][i]
                days_with["play", day] += 1
                watched[day] += log["dwell_ms"][i] / 1000
                if len(items) >= user_metrics.WINDOW:
                    share = Counter(cluster_I[x] for x in items[-user_metrics.WINDOW :])
                    p = np.array(list(share.values())) / user_metrics.WINDOW
                    windows[day] = -(p * np.log2(p)).sum()
                else:
                    windows.pop(day, None)
        now = [
            x
            for x, i in zip(items, [r for r in rows if log["item"][r] >= 0], strict=True)
            if log["day"][i] >= first_day
        ]
        spent = sum(x >= user_metrics.LONG_DAY_S for x in watched.values())
        active = sum(kind == "play" for kind, _ in days_with)
        dismissing = sum(kind == "dismissal" and n > 0 for (kind, _), n in days_with.items())
        found.append(
            {
                "dislike_rate": (count["dislike"], count["played"]),
                "repeated_dislikes": (count["again", "dislike"], count["played"]),
                "dismissals": (count["dismissals"], count["seen"]),
                "dismissing_users": (dismissing, 1),
                "viewers": (active, 1),
                "skip_rate": (count["skip"], count["played"]),
                "repeated_skips": (count["again", "skip"], count["played"]),
                "satisfied": (count["satisfied"], 1),
                "unsatisfied": (count["unsatisfied"], 1),
                "enjoyment": (count["enjoyment"], count["played"]),
                "dwell": (sum(watched.values()), 1),
                "long_days": (spent, 1),
                "session_length": (count["played"], count["begins"]),
                "ctr": (count["played"], count["seen"]),
                "clusters": (len({cluster_I[x] for x in now}), 1),
                "creators": (len({creator_I[x] for x in now}), 1),
                "cluster_entropy": (sum(windows.values()), len(windows)),
            }
        )
    return found


@pytest.mark.parametrize("visits", [3, 40, 400])
def test_metrics_against_loops(visits):
    rng = np.random.default_rng(visits)
    log, creator_I, cluster_I = random_log(rng, visits, 9), *rng.integers(0, 4, (2, 12))
    found = user_metrics.measure(log, 3, 6, creator_I, cluster_I, np.ones(6, bool))
    wanted = slow(log, 3, 6, creator_I, cluster_I)
    assert set(wanted[0]) == set(user_metrics.METRICS)
    for metric in user_metrics.METRICS:
        pairs = np.array([one[metric] for one in wanted], float)
        np.testing.assert_allclose(found.numerator[metric], pairs[:, 0], err_msg=metric)
        np.testing.assert_allclose(found.denominator[metric], pairs[:, 1], err_msg=metric)
    assert all(len(curve) == 6 for curve in found.curves.values())


def test_functions_of_some_users():
    rng = np.random.default_rng(0)
    for users, block in ((1, 4), (7, 3), (8, 4)):
        mask_U, x_U2 = jnp.asarray(rng.random(users) < 0.4), jnp.asarray(rng.random((users, 2)))
        found = served_lists.of_those(mask_U, lambda x: 2 * x, (x_U2,), -x_U2, block)
        np.testing.assert_array_equal(found, np.where(mask_U[:, None], 2 * x_U2, -x_U2))


@pytest.mark.parametrize(
    ("published", "low", "high", "wanted"),
    [
        (-1, -3, -1, "yes"),
        (-1, -3, 1, "no"),
        (-1, 1, 3, "opposite"),
        (1, 1, 3, "yes"),
        (0, -1, 1, "yes"),
        (0, 1, 2, "no"),
        (-1, 0, 0, "no"),
    ],
)
def test_signs(published, low, high, wanted):
    assert reproduced(published, low, high) == wanted


def test_published_rows_name_what_exists():
    for one in PUBLISHED:
        assert one.arm in ARMS and one.control in ARMS and one.metric in user_metrics.METRICS
