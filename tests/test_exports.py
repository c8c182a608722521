"""The public names are the ones in __all__, and importing iagan is cheap."""

import subprocess
import sys

import pytest

import iagan


def test_all_equals_the_namespace():
    assert sorted(iagan.__all__) == sorted(set(iagan.__all__))
    assert sorted(iagan._HOME) + list(iagan._MODULES) != []
    assert set(iagan.__all__) == set(iagan._HOME) | set(iagan._MODULES)
    assert dir(iagan) == sorted(iagan.__all__)


@pytest.mark.parametrize("name", iagan.__all__)
def test_every_public_name_is_there_and_documented(name):
    value = getattr(iagan, name)
    assert isinstance(value, dict) or value.__doc__


def test_names_that_are_not_public_are_refused():
    with pytest.raises(AttributeError, match="no attribute 'magic'"):
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
