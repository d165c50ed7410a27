"""The guides do what they say: their commands and snippets run, in order, in an empty folder."""

import contextlib
import io
import json
import os
import random
import re
import shlex
import subprocess
import sys
from pathlib import Path
from unittest import mock

import matplotlib
import matplotlib.pyplot as plt
import pytest
from programs import run

from negflax.config import ENCODERS, OBJECTIVES
from negflax.loss import objectives
from negflax.model import encoders

# ml_collections loads config files in a way that Python 3.12 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(
    r"(?P<mark><!-- not run: .+? -->\n)?^```(?P<kind>\w*)\n(?P<code>.*?)^```$", re.M | re.S
)


def blocks(page):
    """(language, code) of the fenced blocks that are not marked `<!-- not run: why -->`."""
    text = (ROOT / page).read_text()
    assert len(re.findall(r"^```", text, re.M)) == 2 * len(BLOCK.findall(text))
    return [(m["kind"], m["code"]) for m in BLOCK.finditer(text) if not m["mark"]]


def printed_blocks(page):
    """The blocks of a page that show what a command prints."""
    return [(m["kind"], m["code"]) for m in BLOCK.finditer((ROOT / page).read_text()) if m["mark"]]


def kinds(text):
    """The kinds of lines that a program printed, each once: numbers, speeds and paths left out.

    What depends on the figures goes: rows that equal another one, what the calibration keeps, and
    what a dislike does and the verdict, but for how they begin.
    """
    before, _, verdict = text.partition("\n\n")
    before = re.sub(r"^(In the lists of) .*?with it\.$", r"\1", before, flags=re.S | re.M)
    found = []
    for line in (*before.splitlines(), " ".join(verdict.split()[:2])):
        line = re.sub(r"^(goodput [^:]*:|calibration by \w+:).*", r"\1", line)
        line = re.sub(r"sequences-\w+|runs/\w+|\S*/runs/\w+", "PATH", line)
        line = re.sub(r"-?[\d.,:]*\d|–", "#", re.sub(r"-{2,}", "--", line))
        found.append(re.sub(r" (?=±)| +", " ", line).replace("# ±#", "#").strip())
    return sorted(kind for kind in set(found) if not kind.startswith(("Left out", "…")))


def figures(text):
    """(words, numbers) of the table, the notes and the verdict.

    Speeds are left out, and `rate_adjusted`, whose weight is chosen on validation.
    """
    lines = text[text.index("\nscorer") :].splitlines()
    left = (x for x in lines if "per CPU second" not in x and not x.startswith("rate_adjusted"))
    text = " ".join(" ".join(left).split())
    number = r"[-−]?(?:\d[\d,]*)?\.?\d+"
    numbers = [float(x.replace("−", "-").replace(",", "")) for x in re.findall(number, text)]
    return re.sub(number, "#", text), numbers


def shell(code, folder, quick=True):
    """What a command writes; `quick` compiles faster, which pays off as most runs are short."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": str(int(quick)),
    }
    if not quick:  # those of tests/conftest.py, by which programs are not optimised
        environment.pop("XLA_FLAGS", None)
    done = subprocess.run(
        ["sh", "-eu", "-c", code], cwd=folder, env=environment, text=True, capture_output=True
    )
    assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
    return done.stderr + done.stdout


def program(code):
    """A command `python -m launch.NAME …`, within this process, as its start costs seconds."""
    python, module, name, *arguments = shlex.split(code)
    assert (python, module) == ("python", "-m") and name.startswith("launch.")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        run(name.removeprefix("launch."), *arguments)
    return printed.getvalue()


def python(code, names=None):
    """What a snippet prints; it sees and leaves its names in `names`."""
    names = {"__name__": "__main__"} if names is None else names
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, "<guide>", "exec"), names)
    return printed.getvalue()


@pytest.fixture
def follow(tmp_path, monkeypatch):
    """Runs a page's blocks in an empty folder that has configs/ in it; what each printed."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)

    def play(page, sh=program):
        names = {"__name__": "__main__"}  # of all snippets of the page
        return [
            python(code, names) if kind == "python" else sh(code) for kind, code in blocks(page)
        ]

    return play


def test_quickstart(follow, tmp_path):
    *_, trained = follow("docs/quickstart.md", lambda code: shell(code, tmp_path))
    page = (ROOT / "docs/quickstart.md").read_text()
    for name in re.findall(r"`(\w+@10)`", page):
        assert name in trained
    table = page.split("| file in the workdir |")[1].split("\n\n")[0]
    for name in re.findall(r"`([\w./]+)`", table.replace("`targets_per_cpu_second`", "")):
        assert (tmp_path / "runs/small" / name).exists(), name
    (_, shown), *_ = [one for one in printed_blocks("docs/quickstart.md") if one[0] == "text"]
    assert kinds(trained) == kinds(shown)
    (followed,) = follow("docs/evaluation.md")  # of the run that was just made
    assert "best by ndcg_p@10: step" in followed
    table = (ROOT / "docs/evaluation.md").read_text().split("| in `--out` |")[1].split("\n\n")[0]
    for name in re.findall(r"^\| `([\w./]+)`", table.replace("STEP", "60"), re.M):
        assert (tmp_path / "runs/small-followed" / name).exists(), name


@contextlib.contextmanager
def nothing_registered():
    """Forgets what is registered within, and the modules that did it."""
    modules = set(sys.modules)
    with contextlib.ExitStack() as stack:
        for known in (
            *(OBJECTIVES.traits, OBJECTIVES.modules, ENCODERS.traits, ENCODERS.modules),
            *(objectives._REGISTERED, encoders._ENCODERS),
        ):
            stack.enter_context(mock.patch.dict(known))
        for registry, built in (
            (OBJECTIVES, objectives._REGISTERED),
            (ENCODERS, encoders._ENCODERS),
        ):
            for name in list(registry.modules):
                del registry.traits[name], registry.modules[name], built[name]
        try:
            yield
        finally:
            for name in set(sys.modules) - modules:
                if name.startswith("my_"):
                    del sys.modules[name]


@pytest.mark.system
def test_make_train_prints_what_the_page_shows(tmp_path):
    """The whole run of the first page, in some minutes.

    Rounding differs between machines, and decides which of two equally good checkpoints is best.
    """
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    command = "python -m launch.train --config=configs/synthetic.py --workdir=runs/synthetic"
    (_, shown), *_ = [one for one in printed_blocks("docs/quickstart.md") if one[0] == "text"]
    printed = shell(command, tmp_path, quick=False)
    assert kinds(printed) == kinds(shown)
    (words, numbers), (shown_words, shown_numbers) = figures(printed), figures(shown)
    assert words == shown_words
    for found, expected in zip(numbers, shown_numbers, strict=True):  # shares; percent, counts
        assert abs(found - expected) <= (0.012 if abs(expected) < 1 else 0.02 * abs(expected) + 3)


def test_extending(tmp_path, monkeypatch):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    names, printed, shown = {"__name__": "__main__"}, [], ""
    found = blocks("docs/extending.md")
    for _, code in found[:2]:
        file = re.match(r"# (my_\w+\.py)\n", code)[1]
        (tmp_path / file).write_text(code)
    with nothing_registered():
        trained, evaluated = (program(code) for kind, code in found if kind == "sh")
    assert "ndcg_p@10" in trained and "evaluation-valid.html" in evaluated
    with nothing_registered():
        for kind, code in found[4:]:
            if kind == "python":
                printed.append(python(code, names))
            else:
                shown = code
    error, figure = printed
    assert 0 <= float(figure) <= 1
    expected = " ".join(shown.split()).split("…", 1)  # the page leaves the other names out
    assert error.startswith(expected[0]) and error.strip().endswith(expected[1].split("): ")[1])


def test_your_own_logs(follow, tmp_path):
    _, trained, evaluated, listed, in_python = follow("docs/your_own_logs.md")
    rows = {}
    for name, figure in (line.split()[:2] for line in trained.splitlines() if " " in line.strip()):
        rows.setdefault(name, figure)
    assert float(rows["model"]) > float(rows["popularity"]) + 0.2  # taste is personal in this log
    assert "evaluation-valid.html" in evaluated
    assert "wrote 200 lists to recommendations.csv; 0 of 8,000 events" in listed
    lines = (tmp_path / "recommendations.csv").read_text().splitlines()
    assert lines[0].replace('"', "") == "user_id,rank,item_id,score,title,clusters"
    assert len(lines) == 1 + 200 * 10
    assert "200 users, 0 events on unknown items" in in_python


def test_readme(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw, rows = random.Random(0), ["user_id,item_id,timestamp_ms,like,dislike"]
    for event in range(1_500):
        like = draw.random() < 0.4
        rows.append(
            f"u{draw.randrange(60)},v{draw.randrange(40)},{1_700_000_000_000 + event * 10**6},"
            f"{int(like)},{int(not like and draw.random() < 0.4)}"
        )
    (tmp_path / "my_events.csv").write_text("\n".join(rows))
    snippets = blocks("README.md")
    assert all(kind == "python" for kind, _ in snippets)
    first, *others = [code for _, code in snippets]
    assert len(first.splitlines()) <= 5
    assert "'rank': 1" in python(first) and (tmp_path / "runs/mine/report.html").exists()
    for code in others:
        python(code)


def test_the_notebook(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    notebook = json.loads((ROOT / "examples/first_steps.ipynb").read_text())
    names = {"__name__": "__main__"}
    for cell in notebook["cells"]:
        assert not cell.get("outputs")  # outputs are made, not stored
        if cell["cell_type"] == "code":
            python("".join(cell["source"]), names)
    before, after = names["share_before"], names["share_after"]
    assert after < before  # of the disliked topic
    plt.close("all")


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_examples(path):
    printed = python(path.read_text())
    if path.name == "loss_in_your_model.py":
        before, after = [line.split()[-1] for line in printed.splitlines()]
        assert float(after) < 0.1 * float(before)


PAGES = [
    "docs/extending.md",
    "docs/quickstart.md",
    "docs/your_own_logs.md",
    "docs/data_sets.md",
    "docs/evaluation.md",
    "docs/scale.md",
    "docs/launching.md",
    "docs/data_past_one_machine.md",
    "README.md",
]


@pytest.mark.parametrize("page", PAGES)
def test_settings_and_files_that_are_named_exist(page):
    from negflax.config import Config, to_dict

    sections = to_dict(Config())
    text = (ROOT / page).read_text()
    keys = re.findall(r"--config\.(\w+)\.(\w+)", text)
    keys += re.findall(rf"`({'|'.join(sections)})\.(\w+)`", text)
    for section, key in keys:
        if key not in ("py", "json", "html"):
            assert key in sections[section], f"{section}.{key}"
    for path in re.findall(r"\b(?:configs|negflax|docs|examples)/[\w/]+\.\w+", text):
        assert (ROOT / path).exists(), path
