"""Which checkpoint is the best one, and what is said where none can be."""

import pytest

from negflax.config import ConfigError
from negflax.train.validations import Validations


def test_an_undefined_metric_is_named_and_makes_no_checkpoint_the_best(caplog):
    found = Validations("ndcg_p@10", False, {})
    assert found.checked({"ndcg_p@10": 0.1}) == {"ndcg_p@10": 0.1}
    assert found.checked(None) is None
    assert "undefined" not in caplog.text
    assert found.checked({"ndcg_p@10": None}) is None
    assert "ndcg_p@10 is undefined on the validation period" in caplog.text
    with pytest.raises(ConfigError, match="choose from hr_p@10"):
        found.checked({"hr_p@10": 0.1})
