"""Policies for the weight of the negative term: against a plain loop, and their fixed points."""

import jax
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from negflax.config import ConfigError, LossConfig, from_config_dict
from negflax.train import weights

NAMES = ("negatives", "p_negative", "r", "w", "loss_positive", "loss_negative")
POLICIES = ("constant", "frozen_p", "running_p", "density", "balance")
numbers = st.one_of(st.just(0.0), st.floats(1e-3, 1e3))
history = st.lists(st.fixed_dictionaries({name: numbers for name in NAMES}), max_size=12)


def loss_config(policy, **changes):
    settings = {
        "omega": 0.5,
        "w": 2.0,
        "r": 3.0,
        "w_max": 50.0,
        "positives_only_steps": 5,
        "ramp_steps": 4,
        "averaging_steps": 3,
    } | changes
    return LossConfig(weight_policy=policy, **settings)


def played(config, history):
    """The w of every step, and after the last."""
    loss_weights, measured, found = (
        weights.loss_weights(config, "float32"),
        weights.init_sums("float32"),
        [],
    )
    for step in range(len(history) + 1):
        found.append(float(weights.negative_scale(measured, step, loss_weights, config)))
        if step < len(history):
            measured = weights.update_sums(measured, step, history[step], loss_weights)
    return found


def plain(config, history, step):
    """The documentation of LossConfig.weight_policy, in float64, from all steps before `step`."""
    past = history[:step]

    def total(name, weigh=lambda age: 1.0):
        return sum(weigh(len(past) - 1 - i) * sums[name] for i, sums in enumerate(past))

    def recent(name):
        return total(name, lambda age: (1 - 1 / config.averaging_steps) ** age)

    def ratio(a, b):
        return a / b if b > 0 else 0.0

    half = past[config.positives_only_steps // 2 : config.positives_only_steps]
    w = {
        "constant": config.w,
        "frozen_p": config.omega
        * ratio(sum(s["negatives"] for s in half), sum(s["p_negative"] for s in half)),
        "running_p": config.omega * ratio(recent("negatives"), recent("p_negative")),
        "density": config.w * config.r * ratio(total("r"), total("w")),
        "balance": config.w * config.r * ratio(recent("loss_positive"), recent("loss_negative")),
    }[config.weight_policy]
    grown = (step - config.positives_only_steps + 1) / max(1, config.ramp_steps)
    return min(w, config.w_max or np.inf) * np.clip(grown, 0, 1)


@settings(deadline=None, max_examples=15)
@given(st.sampled_from(POLICIES), history, st.sampled_from([0.0, 50.0]), st.integers(0, 3))
def test_policies_equal_a_plain_loop(policy, history, w_max, ramp):
    config = loss_config(policy, w_max=w_max, ramp_steps=ramp)
    expected = [plain(config, history, step) for step in range(len(history) + 1)]
    np.testing.assert_allclose(played(config, history), expected, rtol=1e-4)


@pytest.mark.parametrize("policy", POLICIES)
def test_policies_equal_a_plain_loop_over_a_whole_warm_up(policy):
    rng = np.random.default_rng(0)
    history = [dict(zip(NAMES, rng.uniform(0.1, 9, len(NAMES)), strict=True)) for _ in range(14)]
    for steps in (4, 5):
        config = loss_config(policy, w_max=0.0, positives_only_steps=steps)
        expected = [plain(config, history, step) for step in range(len(history) + 1)]
        np.testing.assert_allclose(played(config, history), expected, rtol=1e-4)


def test_without_negatives_the_weight_is_zero():
    nothing = dict.fromkeys(NAMES, 0.0) | {"r": 4.0, "loss_positive": 9.0}
    for policy in POLICIES[1:]:
        assert played(loss_config(policy), [nothing] * 12) == [0.0] * 13
    assert played(loss_config("constant", positives_only_steps=0, ramp_steps=0), []) == [2.0]


def test_without_negative_labels_ssm_has_no_weight():
    config = LossConfig(objective="ssm", weight_policy="constant")
    assert played(config, [dict.fromkeys(NAMES, 1.0)] * 300) == [0.0] * 301


def p_after(policy, omega, w_max, positive_rate=1.0, a=0.01, b=0.5):
    """p of one item under the policy: each step puts p where its w has it (docs/method.md §3).

    For small w·p the fixed point is p = a / (Λ + w·b), a and b the rates of positive and negative
    labels on the item, Λ the rate of all positives.
    """
    config = LossConfig(
        weight_policy=policy,
        omega=omega,
        w=omega,
        w_max=w_max,
        positives_only_steps=4,
        ramp_steps=1,
        averaging_steps=10,
    )
    loss_weights, measured = weights.loss_weights(config, "float32"), weights.init_sums("float32")
    update, weigh = jax.jit(weights.update_sums), jax.jit(weights.negative_scale, static_argnums=3)
    p = a / positive_rate
    for step in range(400):
        sums = {
            "negatives": b,
            "p_negative": b * p,
            "r": positive_rate,
            "w": b,
            "loss_positive": positive_rate,
            "loss_negative": -b * np.log1p(-p),
        }
        w = float(weigh(measured, step, loss_weights, config))
        measured = update(measured, step, sums, loss_weights)
        p = a / (positive_rate + w * b)
    return p, w


def test_a_frozen_p_has_a_fixed_point_for_any_omega():
    for omega in (0.5, 3.0, 30.0):
        p, w = p_after("frozen_p", omega, 0.0)
        np.testing.assert_allclose(w, omega / 0.01, rtol=1e-4)
        np.testing.assert_allclose(p, 0.01 / (1 + 0.5 * omega / 0.01), rtol=1e-4)


def test_a_running_p_has_a_fixed_point_below_the_ratio_of_rates_or_at_the_cap():
    # fixed point of p = a / (Λ + ω b / p): p = (a − ω b) / Λ, positive for ω < a / b = .02
    p, _ = p_after("running_p", 0.01, 1e9)
    np.testing.assert_allclose(p, 0.01 - 0.01 * 0.5, rtol=1e-3)
    p, w = p_after("running_p", 0.04, 1000.0)
    assert w == 1000
    np.testing.assert_allclose(p, 0.01 / (1 + 1000 * 0.5), rtol=1e-3)
    _, runaway = p_after("running_p", 0.04, 1e9)
    assert runaway > 1e5


def test_a_loss_balance_needs_its_cap_as_well():
    # w·b·p = β: with p = a / (Λ + w b) the push b·w·p = β has a solution for β < a only
    p, w = p_after("balance", 0.005, 1e9)
    np.testing.assert_allclose(w * 0.5 * p, 0.005, rtol=1e-2)
    p, w = p_after("balance", 0.1, 300.0)
    assert w == 300
    np.testing.assert_allclose(p, 0.01 / (1 + 300 * 0.5), rtol=1e-3)


def test_loss_weights_are_run_time_values_that_a_sweep_can_vmap():
    config = loss_config("frozen_p")
    loss_weights, measured = weights.loss_weights(config, "float32"), weights.init_sums("float32")
    measured["warm_up"] = {"p_negative": np.float32(2), "negatives": np.float32(100)}
    stacked = jax.tree.map(lambda x: np.repeat(x, 3), loss_weights)
    stacked = stacked._replace(omega=np.float32([0, 0.1, 9]))
    found = jax.vmap(lambda s: weights.negative_scale(measured, 100, s, config))(stacked)
    np.testing.assert_allclose(found, [0, 5, 50], rtol=1e-6)


def test_the_step_weighs_and_reports_what_it_measured():
    config = tiny.changed(
        loss={
            "weight_policy": "balance",
            "w": 0.5,
            "w_max": 1e6,
            "r": 2.0,
            "positives_only_steps": 3,
            "ramp_steps": 1,
        }
    )
    trainer, batches = tiny.make_trainer(config, tiny.make_sequences())
    state, past = tiny.run_steps(trainer, batches, 6)
    assert [m["w"] > 0 for m in past] == [False] * 3 + [True] * 3
    assert [m["negative_share"] > 0 for m in past] == [False] * 3 + [True] * 3
    np.testing.assert_allclose(past[3]["negative_share"], 1 / 3, atol=0.1)  # w / (1 + w)
    trainer.loss_weights = trainer.loss_weights._replace(w_max=np.float32(1e-3))
    _, capped = tiny.run_steps(trainer, batches, 1, jax.device_put(state, trainer.shardings), 6)
    np.testing.assert_allclose(capped[0]["w"], 1e-3, rtol=1e-6)


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ({"weight_policy": "balance"}, "no fixed point without a cap: set config.loss.w_max"),
        ({"weight_policy": "running_p"}, "no fixed point without a cap: set config.loss.w_max"),
        ({"positives_only_steps": 0}, "set config.loss.positives_only_steps above 0"),
        ({"weight_policy": "frozen"}, "choose from constant, frozen_p"),
        ({"w_max": -1.0}, "config.loss.w_max = -1.0: a number of at least 0"),
        ({"averaging_steps": 0}, "config.loss.averaging_steps = 0: at least 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(loss, said):
    with pytest.raises(ConfigError, match=said):
        from_config_dict({"loss": loss})


def test_positives_only_asks_for_no_cap():
    from_config_dict({"loss": {"objective": "ssm", "weight_policy": "balance"}})
