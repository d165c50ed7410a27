"""The HTML page and its figures."""

import re
from html.parser import HTMLParser

from negflax.config import EvalConfig
from negflax.evaluate import default_baselines, evaluate_scorers, summary_rows
from negflax.evaluate.report.html import Figure, Table, Text, write_report
from negflax.evaluate.report.plots import (
    baseline_charts,
    front_chart,
    learning_curves,
    strata_chart,
)

RECORDS = [
    {"step": step, "loss": 5 - step / 100, "loss_negative": 0.3}
    | ({"hr_p@10": 0.1, "hr_n@10": 0.05, "ndcg_p@10": step / 1e4} if step % 100 == 0 else {})
    for step in range(50, 401, 50)
]


class Balance(HTMLParser):
    """Fails on a tag that closes what is not open."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_report_is_one_whole_page(tmp_path, log):
    config = EvalConfig(ks=(5,), bootstrap=50)
    names = ["popularity", "markov", "random"]
    metrics = evaluate_scorers(default_baselines(log, ("train",), 0), log, config, "test").metrics
    front = {"a <1>": (0.2, 0.1), "b": (0.15, 0.12), "c": (0.3, 0.2, 0.28, 0.32, 0.19, 0.21)}
    sections = [
        Text("What was run", "One paragraph.\n\nAnother with <b> & more."),
        Table("Against the baselines", summary_rows(metrics, names, ["hr_p@5", "auc"]), "Masked."),
        Figure("Learning", learning_curves(RECORDS), "Loss and validation."),
        Figure("Baselines", baseline_charts(metrics, names, ["hr_p@5", "hr_n@5"])),
        Figure("Front", [front_chart(front, 5)]),
    ]
    path = tmp_path / "new" / "report.html"
    assert write_report(path, "A run & its baselines", sections) == path
    page = path.read_text(encoding="utf-8")
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    assert "http" not in page and "<script" not in page
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#)""", page)
    for section in sections:
        assert f"<h2>{section.title}</h2>" in page
    assert "A run &amp; its baselines" in page and "&lt;b&gt; &amp; more" in page
    assert page.count("<svg") == page.count("</svg>") == 5
    assert "currentColor" in page and "#010203" not in page
    assert "prefers-color-scheme: dark" in page and "width=device-width" in page
    ids = re.findall(r'\bid="([^"]+)"', page)
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', page))
    assert used <= set(ids)
    parser = Balance()
    parser.feed(page)
    assert parser.open == []


def test_report_is_the_same_each_time(tmp_path):
    pages = [
        write_report(tmp_path / name, "t", [Figure("f", learning_curves(RECORDS))]).read_bytes()
        for name in ("a.html", "b.html")
    ]
    assert pages[0] == pages[1]


def test_learning_curves_draw_the_metrics_that_exist():
    (figure,) = learning_curves(RECORDS, {"Only": ["loss", "hr_p@10"], "Nothing": []})
    lines = figure.axes[0].get_lines()
    assert [len(line.get_xdata()) for line in lines] == [8, 4]
    assert learning_curves([]) == []


def test_front_leaves_dominated_points_out():
    figure = front_chart({"good": (0.2, 0.1), "worse": (0.15, 0.12), "more": (0.3, 0.2)})
    front = figure.axes[0].get_lines()[-1]
    assert list(front.get_ydata()) == [0.2, 0.3]


def test_bars_of_every_run_fit_in():
    parts = ["history=short", "history=long"]
    runs = {
        name: {
            f"{part}/hr_n@5{end}": value + add
            for part in parts
            for end, add in (("", 0), ("_low", -0.1), ("_high", 0.1))
        }
        for name, value in (("small", 0.2), ("large", 0.7))
    }
    axis = strata_chart("by history length", parts, runs, "hr_n", 5).axes[0]
    assert axis.get_xlim()[0] == 0 and 0.8 <= axis.get_xlim()[1] < 1
    assert [bar.get_width() for bar in axis.patches] == [0.2, 0.2, 0.7, 0.7]
