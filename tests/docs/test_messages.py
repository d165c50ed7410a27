"""The table of messages in docs/your_own_logs.md: each is one of ours, none of data/ is missing."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = (
    (ROOT / "docs" / "your_own_logs.md").read_text(encoding="utf-8").split("## Error messages")[1]
)
CELLS = re.findall(r"^\| (`.*?`) \| ", TABLE, re.MULTILINE)
ROWS = [re.findall(r"`([^`]+)`", cell) for cell in CELLS]
# How a builder of shards or the search for a place goes wrong is told where it is documented.
ELSEWHERE = ("shards.py", "rows of items", "items have rows")


def texts(node):
    """The words of an expression in their order, one text for each string of it; … for a value."""
    if isinstance(node, ast.JoinedStr):
        parts = (x.value if isinstance(x, ast.Constant) else "…" for x in node.values)
        yield "".join(map(str, parts))
        for value in node.values:
            yield from (t for t in texts(value) if not isinstance(value, ast.Constant))
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            yield node.value
    else:
        for child in ast.iter_child_nodes(node):
            yield from texts(child)


def messages(path):
    """(line, texts) of the errors that a file of data/ raises for what the user gave."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and node.args:
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in ("DataError", "ConfigError", "error"):
                found = [text for argument in node.args for text in texts(argument)]
                if any(len(re.sub(r"\W", "", text)) > 8 for text in found):
                    yield node.lineno, found


def test_every_message_of_data_is_in_the_table():
    absent = []
    for path in sorted((ROOT / "negflax" / "data").glob("*.py")):
        for line, found in messages(path):
            told = " ".join(found)
            known = any(len(part) > 7 and part in told for row in ROWS for part in row)
            if not known and not any(x in f"{path.name} {told}" for x in ELSEWHERE):
                absent.append(f"{path.name}:{line}: {told[:100]}")
    assert not absent, "\n".join(absent)


def test_every_row_is_a_message_of_ours():
    said = []
    for folder in ("negflax", "launch"):
        for path in (ROOT / folder).rglob("*.py"):
            said += texts(ast.parse(path.read_text(encoding="utf-8")))
    said = "\n".join(said)
    ours = [part.replace(": row N ", "… ") for row in ROWS for part in row]
    strange = [part for part in ours if part not in said and "cannot be read" not in part]
    assert not strange, "\n".join(strange)
