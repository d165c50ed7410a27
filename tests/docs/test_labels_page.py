"""The examples of docs/labels.md are settings that the rules accept."""

import re
from pathlib import Path

from negflax.config import defaults, from_config_dict
from negflax.data.rules import parse_buckets, parse_rule

PAGE = (Path(__file__).parents[2] / "docs/labels.md").read_text()


def test_examples_are_accepted():
    examples = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    assert len(examples) >= 5
    for code in examples:
        settings = {"config": defaults()}
        exec(code, settings)
        labels = from_config_dict(settings["config"]).labels
        assert [parse_rule(text) for text in (*labels.positive, *labels.negative)]
        parse_buckets(labels.skip)


def test_the_table_of_rules_is_accepted():
    for line in re.findall(r"^\| (`[^|]+`) \|", PAGE, re.M):
        for quoted, text in re.findall(r"(?:`` (.+?) ``|`([^`]+)`)", line):
            if "." not in (rule := quoted or text):
                assert parse_rule(rule)
