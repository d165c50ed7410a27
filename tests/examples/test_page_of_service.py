"""The page of the example service in a real browser, on a run of the synthetic platform.

A click on dislike lowers the share of its kind in the next list.
"""

import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_service import Server

pytestmark = pytest.mark.system

# The page clicks by itself what a person would, and writes what it shows into its body.
CLICKS = """
<pre id="out"></pre><script>
const wait = ms => new Promise(done => setTimeout(done, ms));
const said = () => document.getElementById("said").textContent;
const names = () => [...document.querySelectorAll("#list .name")].map(e => e.textContent);
const top_kind = () => [...document.querySelectorAll("#list .kind")].map(e =>
  e.textContent.slice(5)).map(kind => [kind, shares[kind]]).sort((a, b) => b[1] - a[1])[0];
async function click(what, kind) {
  const line = [...document.querySelectorAll("#list li")].find(e =>
    e.querySelector(".kind").textContent === "kind " + kind);
  const before = said();
  line.querySelector("." + what).click();
  while (said() === before) await wait(20);
}
shown.then(async () => {
  const found = {names: [names()], said: [], width: document.documentElement.scrollWidth};
  for (const what of ["dislike", "dislike", "dislike", "like", "skip"]) {
    const [kind, share] = top_kind();
    await click(what, kind);
    found.said.push([what, share, shares[kind] || 0, said()]);
    found.names.push(names());
  }
  document.getElementById("out").textContent = JSON.stringify(found);
});
</script>
"""


# A small world; without the calibration, so short a run learns too little from dislikes.
SMALL = {
    "world.name": "reacting",
    "world.num_users": 1_500,
    "world.num_items": 400,
    "world.num_creators": 60,
    "world.num_clusters": 12,
    "loss.positives_only_steps": 100,
    "loss.ramp_steps": 50,
    "optimizer.warmup_steps": 50,
    "train.steps": 400,
    "train.eval_every": 400,
    "train.checkpoint_every": 400,
    "calibration.after_training": True,
}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run of configs/synthetic.py, by the command of the guide."""
    folder = tmp_path_factory.mktemp("run") / "synthetic"
    command = [
        sys.executable,
        "-m",
        "launch.train",
        "--config=configs/synthetic.py",
        "--test=false",
    ]
    command += [f"--config.{name}={value}" for name, value in SMALL.items()]
    plain = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [*command, f"--workdir={folder}"], cwd=root, env=plain, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (folder / "calibration.json").exists()
    return folder


def test_clicks_change_the_list(workdir, tmp_path):
    if not (browser := shutil.which("chromium")):
        pytest.skip("no chromium: apt-get install chromium")
    server = Server(workdir, lengths=(60,))
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
    assert re.fullmatch(r"Topic \d+, creator \d+, clip \d+", found["names"][0][0])
    for before, after in zip(found["names"], found["names"][1:], strict=False):
        assert before != after  # the item is gone, and more
    dislikes = [one for one in found["said"] if one[0] == "dislike"]
    assert len(dislikes) == 3 and all(one[2] < one[1] for one in dislikes), found["said"]
    before, after = (sum(one[i] for one in dislikes) for i in (1, 2))
    assert after < 0.6 * before, found["said"]
    assert re.search(r"its share of the best 60 went from \d+ % to \d+ %", dislikes[0][3])
    assert found["width"] <= 700
