"""A folder is recovered whatever is in it: one bad input or output takes no other down."""

from __future__ import annotations

import os
import shutil
import sys

import pytest

from iagan.errors import Cancelled, OutputError
from iagan.images import load_image, save_image
from iagan.jobs import find_inputs, recover
from iagan.methods import CSGM
from iagan.operators import BicubicDownsample
from iagan.show import Panel, figure
from toys import images, nonlinear_generator

posix = pytest.mark.skipif(sys.platform != "linux", reason="names and modes of Linux")


@pytest.fixture
def folder(tmp_path):
    """Two small photographs."""
    for name, image in zip("ab", images(2), strict=True):
        save_image(image[None, :, ::4, ::4], tmp_path / "in" / f"{name}.png")
    return tmp_path / "in"


def run(inputs, out, **options):
    """Outcomes by the input's name."""
    chosen = {
        "prior": nonlinear_generator(),
        "operator": lambda shape: BicubicDownsample(shape, scale=4),
        "methods": ["naive"],
    } | options
    return {o.path.name: o for o in recover(inputs, out, **chosen)}


@posix
def test_names_that_are_long_strange_or_no_text(folder, tmp_path):
    """Of 250 letters the output's name would be too long, of 238 only that of what is partial."""
    strange = ["n" * 246 + ".png", "é" * 119 + ".png", "a\nb.png", os.fsdecode(b"\xff\xfe.png")]
    for name in strange:
        shutil.copy(folder / "a.png", folder / name)
    outcomes = run([folder], tmp_path / "out")
    assert {name for name, o in outcomes.items() if o.status != "done"} == {strange[0]}
    error = outcomes[strange[0]].error
    assert isinstance(error, OutputError) and "too long" in str(error)
    assert all(o.output.exists() for name, o in outcomes.items() if name != strange[0])
    again = run([folder], tmp_path / "out")
    assert {o.status for name, o in again.items() if name != strange[0]} == {"skipped"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_places_that_are_taken_by_folders(overwrite, folder, tmp_path):
    """That of an output, told before any work, and that of what a stopped run would leave."""
    out = tmp_path / "out"
    (out / "a_naive.png").mkdir(parents=True)
    (out / "b_naive.partial.png").mkdir()
    outcomes = run([folder], out, overwrite=overwrite)
    assert outcomes["b.png"].status == "done"
    assert outcomes["a.png"].status == "failed"
    assert "it is a folder" in str(outcomes["a.png"].error)


@posix
def test_what_nobody_may_read_is_one_failure(folder, tmp_path):
    """A file, a folder beside the others, and what is in such a folder; root may read all."""
    secret = tmp_path / "secret"
    secret.mkdir()
    shutil.copy(folder / "a.png", secret / "x.png")
    out = tmp_path / "out"
    out.mkdir()
    root = os.geteuid() == 0
    if root:
        for path in (tmp_path, *tmp_path.parents[:2], *tmp_path.rglob("*")):
            path.chmod(path.stat().st_mode | 0o055)
        os.chown(out, 65534, 65534)
    (folder / "b.png").chmod(0)
    secret.chmod(0)
    try:
        if root:
            os.seteuid(65534)
        outcomes = run([folder, secret, secret / "x.png"], out)
    finally:
        if root:
            os.seteuid(0)
        secret.chmod(0o700)
    assert outcomes.pop("a.png").status == "done"
    assert set(outcomes) == {"b.png", "secret", "x.png"}
    for outcome in outcomes.values():
        assert outcome.status == "failed"
        assert "Permission denied" in str(outcome.error)


def test_results_in_a_folder_that_is_also_the_output_are_not_recovered(folder, caplog):
    """Finished ones, what a stopped run left, and figures; only where they would go there again."""

    def stop(event):
        if event.phase == "csgm":
            raise RuntimeError("the button")

    run([folder], folder)
    with pytest.raises(Cancelled):
        run([folder], folder, methods=[CSGM(steps=3)], on_event=stop)
    figure([[Panel(load_image(folder / "a.png"), "a")]], folder / "figure.png")
    assert len(list(folder.iterdir())) == 7
    assert {path.name for path in find_inputs([folder], folder)} == {"a.png", "b.png"}
    assert "skipped files that are earlier results: 5" in caplog.text
    again = run([folder], folder)
    assert {name: o.status for name, o in again.items()} == {"a.png": "skipped", "b.png": "skipped"}
    assert len(find_inputs([folder], folder.parent)) == 7
    assert len(find_inputs([folder / "a_naive.png"], folder)) == 1
