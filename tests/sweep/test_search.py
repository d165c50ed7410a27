"""The search: ranges, what is asked and told, a study that goes on, trials that diverge."""

import pytest

from negflax.config import Config, ConfigError
from negflax.sweep.search import JOURNAL, open_study, ranges, search

LIMITS = {"loss.w": (1.0, 1000.0)}


def test_ranges():
    assert ranges({"loss.w": ["10", "1", "3"]}) == {"loss.w": (1.0, 10.0)}
    for values in (["0", "1"], ["1"], ["1", "x"], ["-1", "2"]):
        with pytest.raises(ConfigError, match="a search needs"):
            ranges({"loss.w": values})


@pytest.fixture
def study(tmp_path):
    pytest.importorskip("optuna", reason="runs after `make setup-test` (optuna)")

    def opened():
        return open_study(tmp_path, "one", seed=0)

    return opened


def test_it_asks_trains_and_tells(study, tmp_path):
    seen = []

    def judge(runs):
        seen.append(list(runs))
        assert all(1 <= one.loss.w <= 1000 for one in runs.values())
        return {n: {"hr_p": 1 / c.loss.w, "hr_n": 1 / c.loss.w} for n, c in runs.items()}

    runs = search(study(), Config(), LIMITS, (5, 2), judge)
    assert seen == [["trial=0", "trial=1"], ["trial=2", "trial=3"], ["trial=4"]]
    assert list(runs) == sum(seen, []) and (tmp_path / JOURNAL).exists()
    again = search(study(), Config(), LIMITS, (5, 2), judge)
    assert again == runs and len(seen) == 3
    assert len(search(study(), Config(), LIMITS, (6, 2), judge)) == 6


def test_a_search_that_was_stopped_goes_on_with_what_it_had_asked_for(study):
    asked = []

    def stopped(runs):
        asked.append(runs)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(study(), Config(), LIMITS, (4, 2), stopped)

    def judge(runs):
        asked.append(runs)
        return {name: {"hr_p": 0.5, "hr_n": 0.1} for name in runs if name != "trial=1"}

    found = study()
    runs = search(found, Config(), LIMITS, (4, 2), judge)
    assert asked[0] == asked[1] and len(runs) == 4
    assert [trial.state.name for trial in found.trials] == ["COMPLETE", "FAIL"] + ["COMPLETE"] * 2
