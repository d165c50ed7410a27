import dataclasses
import json

import pytest

from negflax import config as configs
from negflax.config import Config, ConfigError, from_config_dict, to_dict


def test_every_setting_is_documented():
    for section in dataclasses.fields(Config):
        cls = type(getattr(Config(), section.name))
        for field in dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ():
            assert f"\n      {field.name}: " in cls.__doc__, f"{section.name}.{field.name}"


def test_defaults_are_equal_after_config_dict_and_json():
    assert from_config_dict(configs.defaults()) == Config()
    assert from_config_dict(json.loads(json.dumps(to_dict(Config())))) == Config()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"loss": {"omga": 1.0}}, "config.loss.omga is not a setting; did you mean `loss.omega`"),
        ({"zzz": 1}, "config.zzz is not a setting; known: name, data"),
        ({"loss": 3}, "config.loss is a section"),
        ({"batch": {"rows": 1.5}}, r"config.batch.rows = 1.5: expected int"),
        ({"batch": {"rows": True}}, "config.batch.rows = True"),
        ({"batch": {"rows": 0}}, "config.batch.rows = 0: at least 1"),
        ({"eval": {"ks": 10}}, r"config.eval.ks = 10 is a tuple: write \(10,\)"),
        ({"eval": {"ks": ()}}, "config.eval.ks"),
        ({"train": {"metric": "ndgc_p@10"}}, "metric = 'ndgc_p@10' .* did you mean 'ndcg_p@10'"),
        ({"eval": {"ks": (5,)}}, "metric = 'ndcg_p@10' is not measured: did you mean 'ndcg_p@5'"),
        ({"train": {"metric": "p"}}, r"ks = \(10, 20\), for precision, .*; and auc"),
        ({"loss": {"objective": "bce"}}, "choose from ntr, ssm"),
        ({"model": {"features": ("dwel",)}}, "choose from dislike, dismissal, dwell"),
        ({"model": {"dropout_input": 1.0}}, "a share from 0"),
        ({"loss": {"omega": -1.0}}, "config.loss.omega = -1.0"),
        ({"optimizer": {"clip_value": -1}}, "config.optimizer.clip_value = -1.0"),
        ({"optimizer": {"momentum": 1}}, "config.optimizer.momentum = 1.0: a share"),
        ({"data": {"source": "event_log"}}, "config.data.path is empty"),
        ({"data": {"reserved_items": -1}}, "config.data.reserved_items = -1: a number of at least"),
        ({"data": {"hash_buckets": 2}}, "hash_buckets needs config.data.min_item_events above 1"),
        ({"data": {"hash_buckets": 2, "split": "leave_one_out"}}, "hash_buckets must be 0 with"),
    ],
)
def test_a_bad_setting_is_named(values, message):
    with pytest.raises(ConfigError, match=message):
        from_config_dict(values)


def test_an_integer_is_a_float_too():
    assert from_config_dict({"loss": {"omega": 1}}).loss.omega == 1.0


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("batch", {"rows": -3}, "config.batch.rows = -3: at least 1"),
        ("batch", {"rows": True}, "config.batch.rows = True: expected int, not bool"),
        ("loss", {"objective": "nrt"}, "config.loss.objective = 'nrt': did you mean 'ntr'"),
        ("model", {"encoder": "gru_memry"}, "config.model.encoder.*did you mean 'gru_memory'"),
        ("loss", {"omega": float("nan")}, "config.loss.omega = nan: a finite number"),
        ("eval", {"ks": [5, 10]}, r"config.eval.ks = \[5, 10\] is a tuple: write \(5, 10\)"),
        ("eval", {"ks": (5, "10")}, "config.eval.ks = '10': expected int, not str"),
    ],
)
def test_a_config_built_in_python_is_checked_alike(section, changes, message):
    values = dataclasses.replace(getattr(Config(), section), **changes)
    with pytest.raises(ConfigError, match=message):
        configs.check(dataclasses.replace(Config(), **{section: values}))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("returned: 2", ("returned: 2",)),
        ("like, rating >= 4", ("like", "rating >= 4")),
        ("returned: 2; reason == 'a, b'", ("returned: 2", "reason == 'a, b'")),
        ("('like', 'rating >= 4')", ("like", "rating >= 4")),
        ("(10, 50)", (10, 50)),
        ("10", (10,)),
        ("", ()),
        ("()", ()),
    ],
)
def test_a_tuple_as_text(text, value):
    assert configs.parse_tuple(text) == value
