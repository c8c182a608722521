"""`iagan reproduce`: every experiment at toy size; killed, resumed, refused."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image as Pillow

import iagan
from iagan import measure
from iagan.cli import main
from iagan.errors import SettingError
from iagan.experiments import estimate, paper, table
from iagan.experiments.plan import Plan
from iagan.experiments.run import KEYS, run
from iagan.images import save_image
from iagan.jobs import RunFolder
from iagan.priors import About, Generator, UniformLatent, save_prior
from iagan.priors.networks.began import Began

QUICK = ["--steps-scale", "0.002", "--lpips", "none"]


@pytest.fixture(scope="module")
def prior(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("prior") / "small.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Began(channels=4, size=32, latent=4)
    about = About("small", "began")
    save_prior(Generator(network, UniformLatent((4,)), about=about), path)
    return str(path)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Two smooth random pictures and a file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    rng = torch.Generator().manual_seed(0)
    for name in ("a", "b"):
        coarse = torch.rand(1, 3, 5, 5, generator=rng)
        picture = torch.nn.functional.interpolate(coarse, size=(40, 40), mode="bicubic")
        save_image(picture.clamp(0, 1), folder / f"{name}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def reproduce(prior, photos, run, *more) -> int:
    return main(["reproduce", *more, "--prior", prior, "--images", str(photos), "-o", str(run)])


def records(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]


def without_seconds(run: Path) -> list[dict]:
    rows = [{k: v for k, v in r.items() if k != "seconds"} for r in records(run)]
    return sorted(rows, key=lambda r: (r["setting"], r["method"], r["image"]))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, prior, photos) -> Path:
    """Every experiment, in one go, with pictures."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    assert reproduce(prior, photos, run, "all", "--save-images", *QUICK) == 0
    return run


def test_every_experiment_has_every_image_by_every_method_once(whole):
    seen = [(r["setting"], r["method"], r["image"]) for r in records(whole)]
    expected = {
        (setting.key, method, f"{name}.png")
        for experiment in paper.EXPERIMENTS.values()
        for setting in experiment.settings
        for method in experiment.methods
        for name in "ab"
    }
    assert set(seen) == expected
    assert len(seen) == len(expected)


def test_the_files_agree_and_say_what_the_run_was(whole):
    """One number in Markdown, TeX and CSV; the quick look and the skipped image in words."""
    text = (whole / "table.md").read_text()
    tex = (whole / "table.tex").read_text()
    rows = list(csv.DictReader((whole / "table.csv").read_text().splitlines()))
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert len(titles) == len(paper.EXPERIMENTS)
    assert all("quick look: 0.002" in title for title in titles)
    assert "1 image could not be read" in text
    for row in rows:
        assert row["count"] == "2"
        assert (row["lpips_net"], row["steps_scale"]) == ("none", "0.002")
        number = f"{float(row['psnr']):.2f}"
        error = f"{float(row['psnr_error']):.2f}"
        assert f"| {row['setting']} | {row['method']} | 2 | {number} ± {error} |" in text
        assert rf"{row['setting']} & {row['method']} & 2 & {number} $\pm$ {error} &" in tex
    settings = json.loads((whole / "settings.json").read_text())
    spec = settings["methods"]["fourier-0.3-noise10"]["iagan"]
    method = iagan.methods.from_spec(spec)
    assert method == iagan.IAGAN(iagan.CSGM(steps=3), steps=1)
    assert len(settings["prior_sha256"]) == 64
    assert settings["versions"]["torch"] == torch.__version__.split("+")[0]


def test_psnr_is_of_the_mean_error_and_its_spread_of_the_images(whole):
    """Independent: from the records by the definitions."""
    own = [
        r for r in records(whole) if (r["setting"], r["method"]) == ("deblur-u9-noise10", "csgm")
    ]
    mse = torch.tensor([r["mse"] for r in own], dtype=torch.float64)
    psnr = torch.tensor([r["psnr"] for r in own], dtype=torch.float64)
    (cell,) = [c for c in table.cells("table4", records(whole)) if c.method == "csgm"]
    assert cell.psnr == pytest.approx(float(-10 * mse.mean().log10()))
    assert cell.psnr_error == pytest.approx(float(psnr.std() / 2**0.5))
    assert (cell.paper_psnr, cell.paper_lpips) == paper.published(
        paper.EXPERIMENTS["table4"].settings[0], "csgm"
    )


def test_pictures_are_kept_and_drawn(whole):
    """Truth, observed and every method of every image; a curve, and a grid a setting."""
    kept = {path.name for path in (whole / "images" / "sr-4").iterdir()}
    methods = paper.EXPERIMENTS["table2"].methods
    assert kept == {f"{n}_{m}.png" for n in "ab" for m in (*methods, "truth", "observed")}
    figures = {path.stem for path in (whole / "figures").iterdir()}
    settings = {s.key for e in paper.EXPERIMENTS.values() for s in e.settings}
    assert figures == settings | {"figure2", "proposition2"}
    for path in (whole / "figures").iterdir():
        with Pillow.open(path) as picture:
            picture.verify()


def test_a_finished_run_repeats_nothing(whole, prior, photos, capsys):
    before = (whole / "records.jsonl").read_bytes()
    assert reproduce(prior, photos, whole, "all", "--save-images", *QUICK) == 0
    assert (whole / "records.jsonl").read_bytes() == before
    assert "no iterative method is left" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (["--seed", "1"], "seed"),
        (["--steps-scale", "0.004"], "steps_scale"),
        (["--restarts", "2"], "restarts"),
        (["--effort", "fast"], "effort"),
    ],
)
def test_another_setting_in_the_same_folder_is_refused(whole, prior, photos, change, word, capsys):
    argv = ["table2", *QUICK, "--save-images", *change]
    assert reproduce(prior, photos, whole, *argv) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"has a run with {word}" in line


def test_pictures_cannot_be_asked_for_in_the_middle(whole, prior, photos, capsys):
    assert reproduce(prior, photos, whole, "table2", *QUICK) == 2
    assert "has a run with save_images True" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("settings.json", b"{broken", "settings.json: expected a JSON object with prior"),
        ("settings.json", b"[]", "settings.json: expected a JSON object with prior"),
        ("settings.json", b"{}", "settings.json: expected a JSON object with prior"),
        ("settings.json", None, "without the settings.json of its run"),
        ("records.jsonl", b"no record\n", "records.jsonl, line 1: expected a JSON object"),
        ("records.jsonl", b"\xff\xfe\n", "records.jsonl, line 1: expected a JSON object"),
        ("records.jsonl", b'{"setting": "sr-4"}\n', "JSON object with setting, method"),
    ],
)
def test_a_damaged_run_is_refused_in_one_line(
    file, content, words, whole, prior, photos, tmp_path, capsys
):
    for name in ("settings.json", "records.jsonl"):
        (tmp_path / name).write_bytes((whole / name).read_bytes())
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content)
    assert reproduce(prior, photos, tmp_path, "table2", "--save-images", *QUICK) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert words in line
    assert "another folder" in line or "Delete that line" in line


def test_proposition_2_is_marked_kept_and_refused_as_the_tables_are(tmp_path, capsys):
    run = ["reproduce", "proposition2", "-o", str(tmp_path), "--steps-scale", "0.01"]
    assert main(run) == 0
    first = capsys.readouterr()
    assert "quick look: 0.01" in first.out
    assert "8 steps of Adam" in first.out
    assert json.loads((tmp_path / "proposition2.json").read_text())["seed"] == 0
    assert main(run) == 0
    again = capsys.readouterr()
    assert again.out == first.out
    assert "stages" in first.err
    assert "stages" not in again.err
    assert main([*run, "--seed", "1"]) == 2
    assert "has a run with seed 0" in capsys.readouterr().err


def test_photographs_smaller_than_the_priors_images_are_named(prior, tmp_path, capsys):
    save_image(torch.full((1, 3, 20, 30), 0.5), tmp_path / "small.png")
    argv = ["table4", "--method", "naive", *QUICK]
    assert reproduce(prior, tmp_path, tmp_path / "run", *argv) == 0
    out, err = capsys.readouterr()
    assert "small.png has fewer than 32×32 pixels" in err
    assert "1 image of fewer than 32×32 pixels: enlarged" in out


def test_another_image_of_a_known_name_is_refused(prior, photos, tmp_path, capsys):
    """Its scores would be those of the first."""
    argv = ["table4", "--method", "naive", *QUICK]
    assert reproduce(prior, photos / "a.png", tmp_path / "run", *argv) == 0
    (tmp_path / "a.png").write_bytes((photos / "b.png").read_bytes())
    assert reproduce(prior, tmp_path / "a.png", tmp_path / "run", *argv) == 2
    assert "another image called a.png" in capsys.readouterr().err


def test_an_image_that_is_replaced_while_it_runs_ends_the_run(prior, photos, tmp_path, capsys):
    """One name would stand for two pictures."""
    picture = tmp_path / "in" / "a.png"
    picture.parent.mkdir()
    picture.write_bytes((photos / "a.png").read_bytes())
    plan = Plan(("table2",), (picture,), methods=("naive",), lpips_net=None)
    folder = RunFolder(tmp_path / "run", {}, (), KEYS)

    def replace(event):
        if event.message.startswith("sr-8"):
            picture.write_bytes((photos / "b.png").read_bytes())

    with pytest.raises(SettingError, match="another image called a.png"):
        run(plan, iagan.load_prior(prior), folder, on_event=replace)
    assert {r["setting"] for r in folder.records()} == {"sr-4"}


def test_a_table_of_more_images_than_were_named_says_so(prior, photos, tmp_path, capsys):
    argv = ["table4", "--method", "naive", *QUICK]
    assert reproduce(prior, photos, tmp_path / "run", *argv) == 0
    assert reproduce(prior, photos, tmp_path / "run", *argv, "-n", "1") == 0
    assert "also has records of 1 image not named here" in capsys.readouterr().err


def test_equal_images_have_a_finite_psnr(prior, tmp_path, capsys):
    """A flat picture comes back as it was; JSON knows no infinity, a mean of it is useless."""
    save_image(torch.full((1, 3, 40, 40), 0.0), tmp_path / "flat.png")
    save_image(torch.full((1, 3, 40, 40), 1.0), tmp_path / "white.png")
    argv = ["table2", "--method", "naive", *QUICK]
    assert reproduce(prior, tmp_path, tmp_path / "run", *argv) == 0
    assert all(r["psnr"] <= 120 for r in records(tmp_path / "run"))
    assert "inf" not in capsys.readouterr().out.lower()


def test_lpips_that_cannot_be_had_is_refused_before_the_run(
    prior, photos, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    measure._network.cache_clear()
    assert reproduce(prior, photos, tmp_path / "run", "table4", "--method", "naive") == 2
    assert "leave LPIPS out: --lpips none" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_lpips_is_recorded_and_averaged(prior, photos, tmp_path, capsys, monkeypatch):
    """With a stand-in for the network: the root mean square of what it is given."""

    class Distance(torch.nn.Module):
        def forward(self, a, b):
            return (a - b).square().mean((1, 2, 3)).sqrt() / 2

    monkeypatch.setattr(measure, "_network", lambda net: Distance())
    argv = ["table4", "--method", "naive", "--lpips", "vgg"]
    assert reproduce(prior, photos, tmp_path / "run", *argv) == 0
    own = records(tmp_path / "run")
    for record in own:
        assert record["lpips"] == pytest.approx(record["mse"] ** 0.5, rel=1e-4)
    out = capsys.readouterr().out
    assert "LPIPS (vgg)" in out
    assert f"| {sum(r['lpips'] for r in own) / 2:.3f} ±" in out


def test_methods_that_only_some_tables_have_are_welcome(prior, photos, tmp_path, capsys):
    """One list of methods for many tables; Table 4 has no back-projection."""
    argv = ["table4", "--method", "naive,iagan-bp", *QUICK]
    assert reproduce(prior, photos, tmp_path / "run", *argv) == 0
    assert {r["method"] for r in records(tmp_path / "run")} == {"naive"}


def test_one_image_has_no_spread(prior, photos, tmp_path, capsys):
    assert reproduce(prior, photos, tmp_path / "r", "table4", "-n", "1", *QUICK) == 0
    out = capsys.readouterr().out
    assert "nan" not in out
    assert "±" not in out


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["-n", "0"], "at least one image"),
        (["-n", "-3"], "at least one image"),
        (["--setting", "sr-3"], "sr-4, sr-8"),
        (["--method", "pinv"], "table2 expects methods from naive, dip, csgm"),
        (["--restarts", "0"], "at least one start of z"),
        (["--steps-scale", "2"], "fraction in"),
    ],
)
def test_what_cannot_be_run_is_refused_before_a_folder_is_made(
    more, words, prior, photos, tmp_path, capsys
):
    assert reproduce(prior, photos, tmp_path / "run", "table2", *more) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_folder_without_a_readable_image_is_refused(prior, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    for content in (None, b"no picture"):
        if content:
            (tmp_path / "photos" / "x.png").write_bytes(content)
        assert reproduce(prior, tmp_path / "photos", tmp_path / "run", "table2") == 2
        assert "got none that can be read" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_two_images_of_one_name_are_refused(prior, photos, tmp_path, capsys):
    """Also of another suffix: their pictures would be one file."""
    argv = ["reproduce", "table4", *QUICK, "--prior", prior, "-o", str(tmp_path / "run")]
    for name in ("a.png", "a.bmp"):
        other = tmp_path / name
        save_image(torch.full((1, 3, 40, 40), 0.5), tmp_path / "grey.png")
        (tmp_path / "grey.png").rename(other)
        assert main([*argv, "--images", str(photos), str(other)]) == 2
        assert str(other) in capsys.readouterr().err


def test_a_killed_run_goes_on_and_a_second_process_is_refused(prior, photos, tmp_path, capsys):
    """`kill -9` after some records, half a line left behind: the rest is as if nothing was."""
    argv = ["table1", "--method", "naive,csgm,iagan", "--lpips", "none"]
    scale = ["--steps-scale", "0.05", "--save-images"]
    assert reproduce(prior, photos, tmp_path / "once", *argv, *scale) == 0
    run = tmp_path / "killed"
    command = [sys.executable, "-m", "iagan", "reproduce", *argv, *scale, "--prior", prior]
    command += ["--images", str(photos), "-o", str(run)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        file = run / "records.jsonl"
        while not (file.exists() and file.read_bytes().count(b"\n") >= 4):
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.01)
        assert reproduce(prior, photos, run, *argv, *scale) == 2
        assert "Another process" in capsys.readouterr().err
        process.send_signal(signal.SIGKILL)
    before = len(file.read_text().splitlines())
    assert before < len(records(tmp_path / "once"))
    with file.open("ab") as stream:
        stream.write(b'{"setting": "fourier-0.3-no')
    assert reproduce(prior, photos, run, *argv, *scale) == 0
    assert without_seconds(run) == without_seconds(tmp_path / "once")
    mine, theirs = (
        {path.relative_to(r): path.read_bytes() for path in (r / "images").rglob("*.png")}
        for r in (run, tmp_path / "once")
    )
    assert mine == theirs


def test_the_estimate_counts_what_is_left(prior, photos, tmp_path, capsys):
    argv = ["table1", "--method", "dip,csgm", *QUICK]
    assert reproduce(prior, photos, tmp_path / "run", *argv) == 0
    line = next(x for x in capsys.readouterr().err.splitlines() if x.startswith("2 images"))
    assert re.search(r"about .* on this machine \(.*DIP .*CSGM ", line)


def test_the_estimate_is_iterations_times_the_pace(prior, photos, monkeypatch):
    """On a machine where a step of an image takes a second: the paper's iterations, added here."""
    clock = [0.0]

    def takes_a_second_a_step(observation, generator, method, execution):
        clock[0] += len(observation) * sum(method.iterations().values())

    monkeypatch.setattr(estimate.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(estimate, "reconstruct", takes_a_second_a_step)
    images = tuple(sorted(photos.glob("*.png")))[:2]
    plan = Plan(("table1", "table2"), images)
    seconds = estimate.estimate_seconds(plan, iagan.load_prior(str(prior)), [])
    settings_of_table1, settings_of_table2 = 2, 2
    assert seconds == {
        "dip": 2 * (settings_of_table1 * 3000 // 4 + 2000 + 4000),
        "csgm": 2 * (settings_of_table1 + settings_of_table2) * 1600,
        "iagan": 2 * (settings_of_table1 * 300 + settings_of_table2 * 500),
    }
    assert "5 h 33 min" in estimate.format_estimate({"csgm": 20_000.0})
