"""docs/method.md has the sections and items that the code cites, and its worked numbers hold."""

import math
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "method.md"
CITED = re.compile(r"method\.md\s+§(\d+(?:\.\d+)?)(?:(?:,| and)\s+(\d+(?:\.\d+)?))?")


def headings_and_items() -> set[str]:
    """Section numbers, and N.M for each numbered item of section N."""
    found, section = set(), ""
    for line in PAGE.read_text().splitlines():
        if heading := re.match(r"## (\d+)\. ", line):
            section = heading[1]
            found.add(section)
        elif item := re.match(r"(\d+)\. ", line):
            found.add(f"{section}.{item[1]}")
    return found


def test_every_citation_points_at_a_section_or_an_item() -> None:
    folders = ("negflax", "launch", "configs", "benchmarks", "tests", "docs")
    cited = {
        (name, path.name)
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".md", ".rst", ".j2"} and path != PAGE
        for groups in CITED.findall(path.read_text())
        for name in groups
        if name
    }
    assert len(cited) > 30
    known = headings_and_items()
    assert {(name, path) for name, path in cited if name not in known} == set()


def test_sections_are_numbered_in_order() -> None:
    sections = re.findall(r"^## (\d+)\.", PAGE.read_text(), re.M)
    assert sections == [str(1 + i) for i in range(len(sections))]


def test_the_gradients_per_unit_weight_are_those_of_the_table() -> None:
    rows = {
        line.split("|")[1].strip(): [float(cell) for cell in line.split("|")[2:-1]]
        for line in PAGE.read_text().splitlines()
        if re.match(r"\| (p_y|`negative_weight`|`ntr`|`smoothed`, .*|`focal`, .*) \| \.?\d", line)
    }
    for number, p in enumerate(rows["p_y"]):
        exact = {
            "`negative_weight`": 1 - p,
            "`ntr`": p,
            "`smoothed`, ε = 1e-3": p * (1 - p) / (p + 1e-3),
            "`focal`, γ = 2": (1 - p) ** 2 * (1 - p - 2 * p * math.log(p)),
        }
        for name, value in exact.items():
            assert math.isclose(rows[name][number], value, rel_tol=0.03), (name, p)
