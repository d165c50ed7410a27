"""Which folders are arms, and which are an arm's training seeds."""

import pytest

from launch.arm_runs import arms_of, worlds_of
from negflax.config import Config, ConfigError, DataConfig, WorldConfig
from negflax.train.run_config import write_config


def test_seeds_belong_to_the_arm_around_them(tmp_path):
    for name in ("ntr/seed0", "ntr/seed1", "ssm/seed0", "plain", "seeds_too/seed7"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("plain", "seeds_too"):
        (tmp_path / name / "config.json").write_text("{}")
    found = arms_of([tmp_path / x for x in ("ntr", "ssm/seed0", "plain", "seeds_too")])
    assert {k: [x.name for x in v] for k, v in found.items()} == {
        "ntr": ["seed0", "seed1"],
        "ssm": ["seed0"],
        "plain": ["plain"],
        "seeds_too": ["seeds_too"],
    }
    assert arms_of([tmp_path / "ntr" / x for x in ("seed0", "seed1")]) == {"ntr": found["ntr"]}


def test_two_arms_of_one_name_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="two folders are named ntr"):
        arms_of([tmp_path / "a" / "ntr", tmp_path / "b" / "ntr"])
    with pytest.raises(ConfigError, match="two folders are named ntr"):
        arms_of([tmp_path / "a" / "ntr" / "seed0", tmp_path / "b" / "ntr" / "seed0"])


def test_folders_of_several_worlds_are_one_arm(tmp_path):
    for name in ("world0/ntr/seed0", "world1/ntr/seed0", "world1/ntr/seed1"):
        (tmp_path / name).mkdir(parents=True)
    found = arms_of([tmp_path / "world0" / "ntr", tmp_path / "world1" / "ntr"])
    assert [str(x.relative_to(tmp_path)) for x in found["ntr"]] == [
        "world0/ntr/seed0",
        "world1/ntr/seed0",
        "world1/ntr/seed1",
    ]
    with pytest.raises(ConfigError, match="two folders are named ntr"):
        arms_of([tmp_path / "world0" / "ntr", tmp_path / "world0" / "ntr"])


def test_runs_of_different_worlds_are_not_compared(tmp_path):
    for name, world in (
        ("a", WorldConfig()),
        ("b", WorldConfig(name="reacting")),
        ("c", WorldConfig(num_users=99)),
    ):
        write_config(tmp_path / name, Config(data=DataConfig(source="synthetic"), world=world))
    for other in "bc":
        arms = {name: [tmp_path / name] for name in ("a", other)}
        with pytest.raises(ConfigError, match=f"a and .*{other} are of different worlds"):
            worlds_of(arms, "best")
