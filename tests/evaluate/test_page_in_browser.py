"""The report in a real browser: what is rendered, at desktop and phone width, light and dark."""

import html
import json
import re
import shutil
import subprocess

import pytest
from reported import make_runs

from negflax.evaluate.report import run_page as page

pytestmark = pytest.mark.system

# Measured within an <iframe srcdoc>, as no window of a headless browser is as narrow as a phone.
WRAPPER = """<!doctype html><body style="margin:0"><iframe id="f" srcdoc="{page}"
style="border:0;width:{width}px;height:900px"></iframe><pre id="out"></pre><script>
document.getElementById("f").onload = event => {{
  const d = event.target.contentDocument, all = s => [...d.querySelectorAll(s)];
  const box = e => e.getBoundingClientRect(), style = e => d.defaultView.getComputedStyle(e);
  const lines = all(".user li").map(e => [...e.children].map(c => box(c)));
  document.getElementById("out").textContent = JSON.stringify({{
    overflow: d.documentElement.scrollWidth - {width},
    titles: all("h2").filter(e => box(e).height > 0).map(e => e.textContent),
    charts: all("svg").map(e => box(e)).map(b => [b.width, b.height, b.left, b.right]),
    letters: Math.min(...all("svg text").map(e => box(e)).filter(b => b.width > b.height)
      .map(b => b.height)),
    clipped: all("svg").flatMap(s => [...s.querySelectorAll("text")].filter(t =>
      box(t).right > box(s).right + 1 || box(t).left < box(s).left - 1)).map(t => t.textContent),
    lists: all(".user ol").map(e => box(e)).map(b => [b.left, b.width]),
    apart: lines.every(b => b.length < 3 || b[2].left >= b[0].right - 1),
    cells: all("td").length,
    columns: all("th").slice(0, 3).map(e => [e.textContent, box(e).right]),
    paper: style(d.body).backgroundColor, ink: style(d.body).color,
    drawn: all("svg text").map(e => style(e).fill)[0],
  }});
}};
</script>"""


@pytest.fixture(scope="module")
def report(log, tmp_path_factory):
    """The page of two runs."""
    folder = tmp_path_factory.mktemp("report")
    _, shown = make_runs(log, folder)
    return page.write_page(folder / "page.html", "test", shown).read_text(encoding="utf-8")


def rendered(report, folder, width, dark):
    """What the browser says about the page."""
    if not (browser := shutil.which("chromium")):
        pytest.skip("no chromium: apt-get install chromium")
    wrapper = folder / "wrapper.html"
    wrapper.write_text(WRAPPER.format(page=html.escape(report), width=width), encoding="utf-8")
    done = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={folder / 'profile'}",
            "--window-size=1400,1000",
            f"--blink-settings=preferredColorScheme={0 if dark else 1}",
            "--dump-dom",
            wrapper.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=600,
    )
    found = re.search(r'<pre id="out">(.*?)</pre>', done.stdout, re.S)
    assert found and found[1], done.stderr[-2000:]
    return json.loads(html.unescape(found[1]))


def brightness(colour):
    red, green, blue = map(float, re.findall(r"[\d.]+", colour)[:3])
    return (0.299 * red + 0.587 * green + 0.114 * blue) / 255


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_rendered(report, tmp_path, width, dark):
    found = rendered(report, tmp_path, width, dark)
    assert found["overflow"] <= 0  # wide tables scroll within their section
    titles = ("Training: first", "Results by subset", "Calibration of p", "Example users: second")
    for title in titles:
        assert title in found["titles"]
    assert found["cells"] > 100
    assert [name for name, _ in found["columns"]] == ["scorer", "hr_p@5", "hr_n@5"]
    assert found["columns"][2][1] <= width  # both hit rates are visible without scrolling
    assert len(found["charts"]) == 1 + 2 * 2 + 3 + 1 + 5 + 2
    for wide, high, left, right in found["charts"]:
        assert 250 < wide <= 500 and high > 100 and left >= 0 and right <= width
    assert found["letters"] >= 8.5  # px, of the smallest word in a chart
    assert found["clipped"] == []
    starts = {left for left, _ in found["lists"]}
    assert len(starts) == (3 if width > 1000 else 1)  # beside each other, or one below the other
    assert min(wide for _, wide in found["lists"]) > 250
    assert found["apart"]
    paper, ink, drawn = (brightness(found[key]) for key in ("paper", "ink", "drawn"))
    assert (paper < 0.2 and ink > 0.7) if dark else (paper > 0.9 and ink < 0.3)
    assert abs(drawn - ink) < 0.05
