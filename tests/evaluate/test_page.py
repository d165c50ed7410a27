"""The report of one and of several runs: what is in the page, whatever a browser makes of it."""

import dataclasses
import html
import re

import numpy as np
import pytest
from reported import CONFIG, make_runs

from negflax.evaluate.report import run_page as page
from negflax.evaluate.report.examples import YES, examples
from negflax.model import Recommender
from negflax.train.restore import Trained
from negflax.train.step import Trainer


@pytest.fixture(scope="module")
def made(log, tmp_path_factory):
    return make_runs(log, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def sequences(made):
    return made[0]


@pytest.fixture(scope="module")
def shown(made):
    return made[1]


def sections(path):
    """title → HTML of the section."""
    text = path.read_text(encoding="utf-8")
    found = re.findall(r"<section.*?<h2>(.*?)</h2>(.*?)</section>", text, re.S)
    assert len(found) == text.count("<section")
    return dict(found)


def test_the_page_of_one_run(shown, tmp_path):
    found = sections(page.write_page(tmp_path / "page.html", "test", shown[:1]))
    assert list(found) == [
        "Verdict",
        "One user: a list before and after a dislike",
        "Ranking, seen items masked",
        "About this evaluation",
        "Training",
        "Comparison with the baselines",
        "Positives and negatives in the list",
        "Results by subset",
        "Calibration of p",
        "Calibration of p, in figures",
        "Example users",
        "Further metrics, seen items masked",
        "Seen items kept",
    ]
    metrics = shown[0].result.metrics
    assert (
        f"{metrics['users']:,} queries with {metrics['positives']:,} positives"
        in (found["About this evaluation"])
    )
    for title in ("Ranking, seen items masked", "Seen items kept"):
        rows = re.findall(r"<tr>(.*?)</tr>", found[title], re.S)[1:]
        for row in rows[:-1]:  # every figure with its interval
            assert len(re.findall(r"-?\d?\.\d{3} ±\d?\.\d{3}", row)) == 5
        assert rows[-1].startswith('<td class="word">n</td>')
    assert f">{metrics['hr_n@5_n']}<" in found["Ranking, seen items masked"]
    charts = {title: text.count("<svg") for title, text in found.items() if "<svg" in text}
    assert list(charts.values()) == [1, 2, 3, 1, 5, 1]
    assert f"(n {metrics['kept/negative=same_item/hr_n@5_n']:,})" in found["Results by subset"]
    assert found["Example users"].count("<article") == 2
    assert found["Example users"].count("<li") >= 2 * (4 + 5 + 5)
    one = found["One user: a list before and after a dislike"]
    assert one.count("<article") == 1 and "Title &lt;" in one
    assert '<li class="gone">' in one and '<li class="new">' in one  # it visibly changes
    assert html.escape(metrics["verdict"].split(". ")[0]) in found["Verdict"]


def test_the_page_of_two_runs(shown, tmp_path):
    found = sections(page.write_page(tmp_path / "page.html", "valid", shown))
    for title in ("Training", "Example users"):
        assert {f"{title}: first", f"{title}: second"} <= set(found)
    rows = re.findall(r'<tr><td class="word">(.*?)</td>', found["Ranking, seen items masked"])
    assert rows[:2] == ["first", "second"] and "model" not in rows and rows[-1] == "n"
    for title in ("Positives and negatives in the list", "Results by subset"):
        assert ">first<" in found[title] and ">second<" in found[title]
    assert found["Calibration of p"].count("<svg") == 2


def test_the_lists_of_an_example(shown, sequences):
    """The lists are the best unseen items, and the dislike is all that differs."""
    first = shown[0]
    found, said = first.examples.users, first.examples.sentence
    assert len({one.user for one in found}) == 3
    assert f"In the lists of {first.examples.asked} random users" in said
    assert 0 < first.examples.before < 1 and first.examples.figures["dislike/change"] == said
    changed = [one for one in found if one.before != one.after]
    assert changed  # the model reads the bit
    for one in found:
        u = list(sequences.user_ids).index(one.user)
        events = np.arange(*sequences.offsets_U1[u : u + 2])
        history = events[sequences.split_E[events] < 2][::-1]
        names = [sequences.catalogue.titles[i] for i in sequences.item_E[history]]
        assert [line.name for line in one.history] == names[:8]
        for line, event in zip(one.history, history, strict=False):
            assert (line.mark == "disliked") == (sequences.dislike_E[event] == YES)
        for own, other, moved in ((one.before, one.after, "gone"), (one.after, one.before, "new")):
            listed = [line.name for line in own]
            assert len(listed) == 5 == len(set(listed)) and not set(listed) & set(names)
            for line in own:
                assert (line.moved == moved) == (line.name not in {x.name for x in other})
                assert line.related == (
                    set(line.detail.split(" · ")[0:1]) <= {one.history[0].detail.split(" · ")[0]}
                    or line.detail.split(" · ")[1:] == one.history[0].detail.split(" · ")[1:] != []
                )


def test_a_model_that_reads_no_dislikes_gives_the_same_list_twice(shown, sequences):
    config = dataclasses.replace(CONFIG, model=dataclasses.replace(CONFIG.model, features=()))
    mesh = shown[0].trained.mesh
    model = Recommender(config.model, sequences.catalogue)
    state = Trainer(config, model, sequences.catalogue.train_count_V, 1, mesh).init()
    blind = Trained(config, sequences.catalogue, model, state, 0, mesh)
    for one in examples(blind, shown[0].result.queries, sequences).users:
        assert one.before == one.after
    assert "takes" not in (same := examples(blind, shown[0].result.queries, sequences)).sentence
    assert same.before == same.after


def test_users_who_have_seen_everything_have_lists_without_a_share(shown, sequences, monkeypatch):
    monkeypatch.setattr(
        "negflax.evaluate.report.examples._lists",
        lambda trained, asked, *rest: [np.zeros(0, np.int32)] * len(asked),
    )
    found = examples(shown[0].trained, shown[0].result.queries, sequences)
    assert found.asked > 0 and np.isnan(found.before) and not found.figures
