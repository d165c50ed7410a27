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


def test_defaults_survive_the_trip_through_a_config_dict_and_json():
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
        ({"eval": {"ks": 10}}, r"config.eval.ks is a tuple: write \(10,\)"),
        ({"eval": {"ks": ()}}, "config.eval.ks"),
        ({"loss": {"objective": "bce"}}, "choose from ntr, ssm"),
        ({"model": {"features": ("dwel",)}}, "choose from dislike, dismissal, dwell"),
        ({"model": {"dropout_input": 1.0}}, "a share from 0"),
        ({"loss": {"omega": -1.0}}, "config.loss.omega = -1.0"),
        ({"optimizer": {"clip_value": -1}}, "config.optimizer.clip_value = -1.0"),
        ({"optimizer": {"momentum": 1}}, "config.optimizer.momentum = 1.0: a share"),
        ({"data": {"source": "event_log"}}, "config.data.path is empty"),
        ({"data": {"reserved_items": -1}}, "config.data.reserved_items = -1: a number of at least"),
        ({"data": {"hash_buckets": 2}}, "hash_buckets needs config.data.min_item_events above 1"),
        ({"data": {"hash_buckets": 2, "split": "leave_one_out"}}, "hash_buckets: `leave_one_out`"),
    ],
)
def test_a_bad_setting_is_named(values, message):
    with pytest.raises(ConfigError, match=message):
        from_config_dict(values)


def test_an_integer_is_a_float_too():
    assert from_config_dict({"loss": {"omega": 1}}).loss.omega == 1.0
