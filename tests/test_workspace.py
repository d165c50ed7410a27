"""WORKSPACE.md is true: imports run downward only, and what it names exists."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

import negflax

ROOT = Path(__file__).parents[1]
MAP = (ROOT / "WORKSPACE.md").read_text()
ROOMS = re.findall(r"^\| `(\w+)(?:\.py|/)` \|", MAP, re.M)


def room_of(path):
    return path.relative_to(ROOT / "negflax").parts[0].removesuffix(".py")


def imported(path):
    """Absolute names of the modules that a file imports, at its top or inside a function."""
    package = ".".join(path.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield from (f"{base}.{name.name}" for name in node.names)


def sources(folder):
    return sorted((ROOT / folder).rglob("*.py"))


def test_the_map_lists_every_package():
    on_disk = {room_of(path) for path in sources("negflax")} - {"__init__"}
    assert len(ROOMS) == len(set(ROOMS))
    assert on_disk == set(ROOMS)


def test_every_folder_with_code_is_a_package():
    for folder in ("negflax", "launch", "configs", "benchmarks"):
        for path in sources(folder):
            assert (path.parent / "__init__.py").exists(), f"{path.parent} would not be installed"


@pytest.mark.parametrize("path", sources("negflax"), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_downward(path):
    for name in imported(path):
        parts = name.split(".")
        assert parts[0] not in ("launch", "configs", "benchmarks", "tests"), name
        if parts[0] == "negflax" and len(parts) > 1 and parts[1] in ROOMS:
            here = room_of(path)
            if here == "__init__":  # the face, above all packages: lazy, tests/test_front_door.py
                continue
            assert ROOMS.index(parts[1]) <= ROOMS.index(here), f"{here} imports {name} from below"


def test_the_package_imports_no_heavy_packages():
    for path in sources("negflax"):
        packages = {name.split(".")[0] for name in imported(path)}
        assert not packages & {"tensorflow", "pandas", "sklearn", "torch"}
        builds = path.parent.name == "builders"  # sources.py imports them once one is asked for
        assert builds or not packages & {"tensorflow_datasets", "array_record"}, path
        if path != ROOT / "negflax/config/config.py":
            assert "ml_collections" not in packages, path


def test_configs_import_only_the_settings():
    for path in sources("configs"):
        assert {name for name in imported(path) if name.startswith("negflax")} <= {
            "negflax.config"
        }, path


def test_paths_and_commands_that_the_map_names_exist():
    words = re.findall(r"`([^`]+)`", MAP)
    paths = [w for w in words if re.fullmatch(r"[\w./-]+", w) and ("/" in w or "." in w[1:])]
    made = (".venv", "--")
    face = {f"negflax.{name}" for name in (*negflax.__all__, "NAME")}
    for path in paths:
        if path in face:
            continue
        inside = ROOT / "negflax" / path
        module = ROOT / path.replace(".", "/")
        found = (ROOT / path).exists() or inside.exists() or module.exists()
        assert found or module.with_suffix(".py").exists() or path.startswith(made), path
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    for target in re.findall(r"`make ([\w-]+)", MAP):
        assert target in targets, target
    programs = re.findall(r"python -m (launch|benchmarks)\.(\w+)", MAP)
    assert {(folder, name) for folder, name in programs if folder == "launch"} == {
        ("launch", path.stem) for path in sources("launch") if "__main__" in path.read_text()
    }
    for folder, name in programs:
        assert (ROOT / folder / f"{name}.py").exists()


def test_test_files_have_names_of_their_own():
    """As tests are no package, pytest cannot collect two files of one name."""
    names = [path.name for path in sources("tests") if path.name.startswith("test_")]
    assert sorted(set(names)) == sorted(names)


def file_of(module):
    base = ROOT / module.replace(".", "/")
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.exists()), None)


def home_of(name):
    """The file that a name comes from; what a package's face hands on, where that is defined."""
    if found := file_of(name):
        return found
    package = file_of(name.rpartition(".")[0])
    if package and package.name == "__init__.py":
        for handed_on in imported(package):
            if handed_on.rpartition(".")[2] == name.rpartition(".")[2]:
                return home_of(handed_on)
    return package


def reached(path):
    """The files of negflax/ that a file needs, itself included, but for config/."""
    found = {path}
    todo = [path]
    while todo:
        homes = {home_of(name) for name in imported(todo.pop()) if name.startswith("negflax.")}
        new = {home for home in homes if home and room_of(home) != "config"} - found
        found |= new
        todo += new
    return {str(path.relative_to(ROOT)) for path in found}


def test_the_walk_of_a_step_is_what_it_imports():
    section = MAP.split("## One training step")[1].split("\n## ")[0]
    walk = re.findall(r"^\d+\. `([^`]+)`", section, re.M)
    behind, leaves = (
        re.findall(r"`(negflax/[^`]+)`", section.split(begins)[1].split("\n\n")[0])
        for begins in ("\nBehind a contract", "\nLeaf utilities")
    )
    assert sorted(walk + behind + leaves) == sorted(reached(ROOT / "negflax/train/step.py"))
    for leaf in leaves:
        assert reached(ROOT / leaf) <= set(leaves), leaf
    concepts = re.findall(r"^\| (?!---|concept \|)", section, re.M)
    assert len(walk) <= 15 and len(concepts) <= 15


def test_file_names_are_unique_in_the_package():
    names = [p.name for p in (ROOT / "negflax").rglob("*.py") if p.name != "__init__.py"]
    assert not {name for name in names if names.count(name) > 1}


def test_a_function_takes_seven_arguments_at_most():
    """But for kernel bodies, whose references Pallas hands over, and the loss in one call."""
    for path in (*sources("negflax"), *sources("launch"), *sources("configs")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            given = node.args
            names = {a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)}
            body = path.parent.name == "kernels" and node.name.endswith("_kernel")
            if not body and node.name != "ntr_loss":
                assert len(names - {"self", "cls"}) <= 7, f"{path}:{node.lineno}: {node.name}"
