"""Imports point one way only, as ARCHITECTURE.md says."""

import ast
import re
from pathlib import Path

import iagan

ROOT = Path(iagan.__file__).parent


def _order():
    text = (ROOT.parents[1] / "ARCHITECTURE.md").read_text()
    listed = re.search(r"`(types, errors,[^`]*)`", text).group(1)
    return [name.strip() for name in listed.replace("\n", " ").split(",")]


def _imported_parts(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("iagan"):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("iagan")]
        yield from (name.split(".")[1] for name in names if "." in name)


def test_modules_import_only_from_the_left():
    order = _order()
    wrong = []
    for path in ROOT.rglob("*.py"):
        part = path.relative_to(ROOT).with_suffix("").parts[0]
        if part == "__init__":
            continue
        assert part in order, f"{part} is not in ARCHITECTURE.md's order"
        late = [name for name in _imported_parts(path) if order.index(name) > order.index(part)]
        wrong += [f"{path.relative_to(ROOT)} imports {name}" for name in late]
    assert not wrong


def test_no_file_is_one_that_a_newcomer_would_fear():
    sizes = {path: len(path.read_text().splitlines()) for path in ROOT.rglob("*.py")}
    assert len(sizes) > 80, "files of the same name in other folders count too"
    assert not {str(path): size for path, size in sizes.items() if size > 300}
    assert sorted(sizes.values())[len(sizes) // 2] <= 150
