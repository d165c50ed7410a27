import types

from negflax.evaluate.report import html, run_page
from negflax.train.goodput_log import Account


def test_where_the_time_went_is_on_the_page(tmp_path):
    time = Account({"step": 6.0, "compile": 3.0, "lost": 1.0}, 2)
    runs = [types.SimpleNamespace(name="mine", time=time)]
    page = html.write_report(tmp_path / "page.html", "Title", run_page._time(runs)).read_text()
    assert "mine: goodput 60% over 2 start(s)" in page
    assert run_page._time([types.SimpleNamespace(name="old", time=Account({}, 0))]) == []
