"""The public names are the documented ones, and importing iagan is cheap."""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import iagan


def test_the_public_names_are_those_of_the_documentation():
    """A name that is gone, or new, is so in docs/index.md too."""
    page = (Path(__file__).parents[1] / "docs" / "index.md").read_text()
    table = page.split("## The public names")[1].split("| --- | --- |")[1]
    listed = set(re.findall(r"`(\w+)`", table))
    assert listed == set(iagan.__all__) == set(dir(iagan)), (
        "the table in docs/index.md is to follow"
    )


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
