"""The page of the example service in a real browser: a click on dislike changes the next list."""

import html
import json
import re
import shutil
import subprocess

import pytest
from kinds import trained_run
from test_service import Server

pytestmark = pytest.mark.system

# The page clicks by itself what a person would, and writes what it shows into its body.
CLICKS = """
<pre id="out"></pre><script>
const wait = ms => new Promise(done => setTimeout(done, ms));
const said = () => document.getElementById("said").textContent;
const names = () => [...document.querySelectorAll("#list .name")].map(e => e.textContent);
const top_kind = () => Object.entries(shares).sort((a, b) => b[1] - a[1])[0];
async function click(what, kind) {
  const line = [...document.querySelectorAll("#list li")].find(e =>
    e.querySelector(".kind").textContent === "kind " + kind);
  const before = said();
  line.querySelector("." + what).click();
  while (said() === before) await wait(20);
}
shown.then(async () => {
  const found = {names: [names()], said: [], width: document.documentElement.scrollWidth};
  for (const what of ["like", "skip", "dislike", "dislike"]) {
    const [kind, share] = top_kind();
    await click(what, kind);
    found.said.push([what, share, shares[kind] || 0, said()]);
    found.names.push(names());
  }
  document.getElementById("out").textContent = JSON.stringify(found);
});
</script>
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained_run(tmp_path_factory.mktemp("run") / "mine")


def test_clicks_change_the_list(run, tmp_path):
    if not (browser := shutil.which("chromium")):
        pytest.skip("no chromium: apt-get install chromium")
    server = Server(run.workdir, lengths=(12,))
    page = server.ask("GET", "/")[1]
    assert "</body>" in page

    @server.app.get("/clicks")
    async def clicks():
        from fastapi.responses import HTMLResponse

        return HTMLResponse(page.replace("</body>", CLICKS + "</body>"))

    try:
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
                f"--user-data-dir={tmp_path / 'profile'}",
                "--window-size=700,1000",
                "--virtual-time-budget=60000",
                "--dump-dom",
                f"http://127.0.0.1:{server.port}/clicks",
            ],
            capture_output=True,
            text=True,
            timeout=600,
        )
    finally:
        server.close()
    found = re.search(r'<pre id="out">(.*?)</pre>', done.stdout, re.S)
    assert found and found[1], done.stdout[-3000:] + done.stderr[-2000:]
    found = json.loads(html.unescape(found[1]))
    assert len(found["names"][0]) == 12
    for before, after in zip(found["names"], found["names"][1:], strict=False):
        assert before != after  # the item is gone, and more
    dislikes = [one for one in found["said"] if one[0] == "dislike"]
    for _, before, after, _ in dislikes:
        assert after < 0.5 * before, found["said"]
    assert "its share of the list went from" in dislikes[0][3]
    assert found["width"] <= 700
