"""The language of rules: what is accepted, and what the messages say of the rest."""

import math

import pytest

from negflax.config import ConfigError, from_config_dict
from negflax.data import Condition, Rule, parse_rule
from negflax.data.rules import Bucket, parse_buckets


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("like", Rule((Condition("like"),))),
        (" dislike : 3 ", Rule((Condition("dislike"),), 3)),
        ("rating >= 4", Rule((Condition("rating", ">=", 4),))),
        ("rating<2.5:.5", Rule((Condition("rating", "<", 2.5),), 0.5)),
        ("reward == -1e2", Rule((Condition("reward", "==", -100),))),
        ("skip: 0", Rule((Condition("skip"),), 0)),
        ("skip and dwell_s<1:2", Rule((Condition("skip"), Condition("dwell_s", "<", 1)), 2)),
        ("sandy and android", Rule((Condition("sandy"), Condition("android")))),
        ("reason == spam", Rule((Condition("reason", "==", "spam"),))),
        (
            "dismissal and reason == 'not: mine and \u00fc' : 5",
            Rule((Condition("dismissal"), Condition("reason", "==", "not: mine and \u00fc")), 5),
        ),
    ],
)
def test_parse_rule(text, rule):
    assert parse_rule(text) == rule


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rating >=",
        ">= 4",
        "rating = 4",
        "like:",
        "like: much",
        "like and",
        "and like",
        "like or skip",
        "like and and skip",
        "reason > spam",
        "like skip",
        "reason == 'spam",
    ],
)
def test_bad_rules_show_an_example(text):
    with pytest.raises(ConfigError, match="`rating >= 4`"):
        parse_rule(text)


def test_negative_weight_is_refused():
    with pytest.raises(ConfigError, match=r"labels\.negative.*`dislike: 2`"):
        parse_rule("dislike: -2")


def test_buckets_are_sorted():
    low, high = parse_buckets(("7.5 -: dwell_s < 3", "0-7.5: dwell_s < 1 and rating < 2"))
    assert low == Bucket(0, 7.5, (Condition("dwell_s", "<", 1), Condition("rating", "<", 2)))
    assert high == Bucket(7.5, math.inf, (Condition("dwell_s", "<", 3),))
    assert parse_buckets(()) == []


@pytest.mark.parametrize(
    "text", ["dwell_s < 3", "7-18", "7-18:", "-7: like", "a-b: like", "7-18: like: 3"]
)
def test_bad_buckets_show_an_example(text):
    with pytest.raises(ConfigError, match="`7-18: watch_ratio < .2 and dwell_s < 3`"):
        parse_buckets((text,))


def test_buckets_must_not_overlap_or_be_empty():
    with pytest.raises(ConfigError, match="buckets 0-18 and 7- overlap"):
        parse_buckets(("7-: dwell_s < 3", "0-18: dwell_s < 1"))
    for text in ("18-7: like", "7-7: like"):
        with pytest.raises(ConfigError, match="smaller number first"):
            parse_buckets((text,))


@pytest.mark.parametrize("cap", [-1.0, 0.5])
def test_the_cap_of_propensities_is_checked(cap):
    with pytest.raises(ConfigError, match="labels.propensity_cap"):
        from_config_dict({"labels": {"propensity_cap": cap}})
