"""The page of responsiveness."""

import dataclasses

from branching import SETTINGS

from negflax.simulate import measures
from negflax.simulate import responsiveness_page as page


def test_the_page_shows_arms_curves_and_single_users(walks, log, tmp_path):
    table = [
        {"trajectories": where, "arm": {"sees": "input_only", "blind": "no_signal"}[name]} | row
        for (name, where), outcome in walks.items()
        for row in measures.summarise([measures.Lists([outcome.found], log.catalogue)], 50, 0)
    ]
    named = {f"log_effect/{kind}{end}": -0.3 for kind in measures.KINDS for end in measures.ENDS}
    found = walks["sees", "shared"].found
    users = page.users("input_only", found, log, SETTINGS)
    assert len(users.users) == page.SHOWN_USERS
    for one in users.users:
        rows = {line.name for line in one.before}, {line.name for line in one.after}
        assert {line.name for line in one.before if line.moved == "gone"} == rows[0] - rows[1]
        assert {line.name for line in one.after if line.moved == "new"} == rows[1] - rows[0]
        assert any(line.related for line in one.before) and one.history[0].mark == "liked"
        assert not {line.name for line in one.history} & rows[0]
    path = page.write_page(tmp_path / "page.html", table, named, SETTINGS, [users])
    text = path.read_text()
    assert text.count("<svg") == 8 and "http" not in text and "<script" not in text
    assert "published" in text and "Example users: input_only" in text and "k+3" in text


def test_the_page_of_skips_shows_nothing_that_was_published_of_dislikes(walks, log, tmp_path):
    settings = dataclasses.replace(SETTINGS, plan=dataclasses.replace(SETTINGS.plan, signal="skip"))
    found = walks["sees", "shared"].found
    rows = measures.summarise([measures.Lists([found], log.catalogue)], 50, 0, "skip")
    table = [{"trajectories": "shared", "arm": "input_only"} | row for row in rows]
    named = {f"log_effect/{kind}{end}": -0.3 for kind in measures.KINDS for end in measures.ENDS}
    users = page.users("input_only", found, log, settings)
    path = page.write_page(tmp_path / "page.html", table, named, settings, [users])
    text = path.read_text()
    assert text.count("<svg") == 4 and "published" not in text and "ceiling" not in text
    assert "the other skips it" in text and "of 3 disliked" not in text
    assert ": a skip of" in text and ": a dislike of" not in text
