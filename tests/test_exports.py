"""The public names are the ones in __all__, and importing iagan is cheap."""

import ast
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import iagan


def test_the_stub_is_the_only_list_of_names():
    """Independent: the stub's own imports, parsed here."""
    stub = Path(iagan.__file__).with_suffix(".pyi")
    imported = [
        node for node in ast.parse(stub.read_text()).body if isinstance(node, ast.ImportFrom)
    ]
    names = {alias.asname for node in imported for alias in node.names}
    assert names == set(iagan.__all__) == set(dir(iagan))


def test_the_version_is_the_installed_one():
    assert iagan.__version__ == metadata.version("iagan")


@pytest.mark.parametrize("name", iagan.__all__)
def test_every_public_name_is_there_and_documented(name):
    value = getattr(iagan, name)
    assert isinstance(value, dict) or value.__doc__


def test_names_that_are_not_public_are_refused():
    with pytest.raises(AttributeError, match="No iagan attribute magic"):
        _ = iagan.magic


def test_functions_are_not_shadowed_by_modules():
    """`iagan.observe` and `iagan.reconstruct` are functions, whatever was imported before."""
    assert callable(iagan.observe)
    assert callable(iagan.reconstruct)


def test_help_needs_neither_torch_nor_matplotlib():
    code = (
        "import sys, iagan.cli; iagan.cli.build_parser();"
        "sys.exit(int('torch' in sys.modules or 'matplotlib' in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
