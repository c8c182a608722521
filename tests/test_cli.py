"""The command line: the exact words that scripts rely on, and every bad input in one line."""

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

import iagan
from iagan import jobs
from iagan.cli import COMMANDS, main, operators, options
from iagan.priors import Began

QUICK = ["--csgm-steps", "6", "--steps", "3"]


@pytest.fixture(scope="module")
def prior(tmp_path_factory):
    """A small BEGAN of random weights, saved as a checkpoint."""
    path = tmp_path_factory.mktemp("prior") / "tiny.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = Began(channels=8, size=32, latent=8)
    law = iagan.UniformLatent((8,))
    iagan.save_prior(iagan.Generator(module, law, about=iagan.About(architecture="began")), path)
    return str(path)


@pytest.fixture
def photo(tmp_path):
    """A smooth photograph of 48×40."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (6, 5, 3), dtype=np.uint8)
    path = tmp_path / "photo.png"
    Pillow.fromarray(coarse).resize((40, 48), Pillow.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def observed(photo, prior, tmp_path):
    path = tmp_path / "y.npz"
    assert main(_observe(photo, prior, path)) == 0
    return path


def _observe(photo, prior, path, *more):
    measurement = more or ("--operator", "bicubic", "--scale", "4")
    return ["observe", str(photo), "--prior", prior, *measurement, "-o", str(path)]


def _size(path):
    with Pillow.open(path) as picture:
        return picture.size


def _refused(capsys, argv, *words):
    """Exit code 2 and one line that holds `words`."""
    try:
        code = main([str(word) for word in argv])
    except SystemExit as stop:
        code = stop.code
    said = capsys.readouterr().err.strip()
    assert code == 2, said
    assert len(said.splitlines()) == 1, said
    for word in words:
        assert word in said, said


def test_the_choices_are_the_librarys():
    assert iagan.presets.NAMES == options.METHODS
    assert set(operators.OPERATORS) <= set(iagan.operators.OPERATORS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert "usage" in capsys.readouterr().out


@pytest.mark.parametrize(
    "measurement",
    [
        ("--operator", "bicubic", "--scale", "4", "--noise", "10"),
        ("--operator", "fourier", "--ratio", "0.3"),
        ("--operator", "gaussian", "--ratio", "0.1"),
        ("--operator", "blur", "--size", "5"),
        ("--operator", "inpaint", "--ratio", "0.5"),
        ("--operator", "inpaint", "--box", "4,4,8,8"),
        ("--operator", "denoise", "--noise", "25"),
    ],
)
def test_observe_then_reconstruct(measurement, photo, prior, tmp_path, capsys):
    y, out = tmp_path / "y.npz", tmp_path / "out.png"
    assert main(_observe(photo, prior, y, *measurement)) == 0
    argv = ["reconstruct", str(y), "--prior", prior, "--json", *QUICK, "-o", str(out)]
    capsys.readouterr()
    assert main(argv) == 0
    record = json.loads(capsys.readouterr().out)
    keys = ["file", "output", "method", "prior", "seconds", "steps"]
    keys += ["residual", "relative_residual", "noise_floor", "settings", "messages"]
    assert list(record) == keys
    noisy = "--noise" in measurement
    assert iagan.methods.from_spec(record["settings"]).name == record["method"]
    assert record["method"] == ("iagan" if noisy else "iagan-bp")
    assert record["steps"] == 9
    assert (record["noise_floor"] > 0) == noisy
    if not noisy:
        assert record["relative_residual"] < 1e-5
    assert _size(out) == (32, 32)


def test_the_truth_gets_the_crop_of_the_observation(photo, prior, tmp_path, capsys):
    """Of full measurements without noise A† gives the very crop back: only rounding to 8 bits."""
    y = tmp_path / "y.npz"
    crop = ("--operator", "denoise", "--crop", "3,7,32")
    assert main(_observe(photo, prior, y, *crop)) == 0
    argv = ["reconstruct", str(y), "--prior", prior, "--method", "pinv", "--truth", str(photo)]
    capsys.readouterr()
    assert main([*argv, "--json", "-o", str(tmp_path / "out.png")]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["psnr"] is None, "the very same image: infinite, which JSON cannot say"
    assert record["ssim"] == pytest.approx(1.0, abs=1e-4)
    assert "lpips" in record


def test_a_plain_image_is_a_measurement_too(photo, prior, tmp_path, capsys):
    """A ×4 downscaled photograph of the right size, and one that must be resized."""
    small = tmp_path / "small.png"
    with Pillow.open(photo) as picture:
        picture.resize((8, 8)).save(small)
    for picture in (small, photo):
        out = tmp_path / f"{picture.stem}-out.png"
        argv = ["reconstruct", str(picture), "--prior", prior, "--operator", "bicubic"]
        assert main([*argv, "--scale", "4", "--method", "csgm-bp", *QUICK, "-o", str(out)]) == 0
        assert out.exists()
    assert "resized to 8 px" in capsys.readouterr().err


def test_the_noise_of_a_blurred_picture_is_estimated(prior, tmp_path, capsys):
    """σ = 20/255 on flat grey, and the method that knows noise; not where detail looks like it."""
    rng = torch.Generator().manual_seed(0)
    noisy = 0.5 + 20 / 255 * torch.randn(1, 3, 32, 32, generator=rng)
    iagan.save_image(noisy, tmp_path / "y.png")
    argv = ["reconstruct", tmp_path / "y.png", "--prior", prior, *QUICK, "--noise", "auto"]
    out = ["-o", tmp_path / "x.png", "--json"]
    assert main([str(word) for word in (*argv, *out, "--operator", "blur")]) == 0
    said = capsys.readouterr()
    assert re.search(r"noise of about (19|20|21)\.\d/255", said.err)
    record = json.loads(said.out)
    assert record["method"] == "iagan"
    assert record["noise_floor"] == pytest.approx(20 / 255 * math.sqrt(3 * 32 * 32), rel=0.05)
    _refused(capsys, [*argv, "--operator", "bicubic", "--scale", "1"], "blur or denoise", "/255")
    _refused(capsys, [*argv[:-1], "loud", "--operator", "blur"], "--noise", "loud")


def test_compiling_is_refused_where_it_gains_nothing(observed, prior, capsys):
    argv = ["reconstruct", observed, "--prior", prior, "--device", "cpu", "--compile"]
    _refused(capsys, argv, "--compile expects a GPU", "Leave it out")


def test_a_folder_job_carries_on_skips_and_overwrites(observed, photo, prior, tmp_path, capsys):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    shutil.copy(observed, folder / "good.npz")
    (folder / "bad.npz").write_bytes(b"not a zip")
    argv = ["reconstruct", str(folder), "--prior", prior, "--method", "csgm", "--method", "naive"]
    argv += [*QUICK, "-o", str(out)]
    assert main(argv) == 1
    said = capsys.readouterr()
    assert "bad.npz" in said.err.splitlines()[-1]
    assert sorted(path.name for path in out.iterdir()) == ["good_csgm.png", "good_naive.png"]
    before = (out / "good_csgm.png").stat().st_mtime_ns
    main(argv)
    assert "skipped" in capsys.readouterr().err
    assert (out / "good_csgm.png").stat().st_mtime_ns == before
    main([*argv, "--overwrite"])
    assert (out / "good_csgm.png").stat().st_mtime_ns > before


def test_inputs_measured_alike_are_recovered_together(photo, prior, tmp_path, capsys, monkeypatch):
    """Two of one camera in one call, the third by itself; each as if it were alone."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name, measurement in {
        "a": ("--operator", "bicubic", "--scale", "4"),
        "b": ("--operator", "bicubic", "--scale", "4", "--crop", "4,8,32"),
        "c": ("--operator", "bicubic", "--scale", "2"),
    }.items():
        assert main(_observe(photo, prior, folder / f"{name}.npz", *measurement)) == 0
    together = []
    all_methods = jobs.job.reconstruct_all

    def counting(observation, *rest, **options):
        together.append(len(observation))
        return all_methods(observation, *rest, **options)

    monkeypatch.setattr(jobs.job, "reconstruct_all", counting)
    argv = ["--prior", prior, "--truth", str(photo), "--json", *QUICK, "--method", "iagan"]
    capsys.readouterr()
    assert main(["reconstruct", str(folder), *argv, "-o", str(tmp_path / "out")]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert together == [2, 1]
    assert [Path(record["file"]).name for record in records] == ["a.npz", "b.npz", "c.npz"]
    for name, record in zip("abc", records, strict=True):
        alone = str(tmp_path / f"{name}.png")
        assert main(["reconstruct", str(folder / f"{name}.npz"), *argv, "-o", alone]) == 0
        own = json.loads(capsys.readouterr().out)
        assert own["psnr"] == pytest.approx(record["psnr"], abs=1e-3)
        assert own["residual"] == pytest.approx(record["residual"], rel=1e-3)


def test_two_inputs_of_one_name_get_outputs_of_their_own(photo, prior, tmp_path):
    """Named by the suffix too, and by the folder where that is the same."""
    other = tmp_path / "other" / "photo.png"
    other.parent.mkdir()
    with Pillow.open(photo) as picture:
        picture.save(tmp_path / "photo.bmp")
        picture.save(other)
    out = tmp_path / "out"
    argv = ["reconstruct", photo, tmp_path / "photo.bmp", other, "--prior", prior, "-o", out]
    argv += ["--operator", "bicubic", "--scale", "4", "--method", "naive"]
    assert main([str(word) for word in argv]) == 0
    assert {path.name for path in out.iterdir()} == {
        "other-photo.png_naive.png",
        "photo.bmp_naive.png",
        f"{tmp_path.name}-photo.png_naive.png",
    }


def test_methods_and_inputs_given_twice_are_done_once(observed, prior, tmp_path, capsys):
    argv = ["reconstruct", str(observed), str(observed), "--prior", prior, "--json", *QUICK]
    argv += ["--method", "naive", "--method", "naive", "-o", str(tmp_path / "out.png")]
    capsys.readouterr()
    assert main(argv) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_a_reader_that_closes_the_pipe_loses_no_image(observed, prior, tmp_path):
    """As in `| head -1`: every image is there, and the exit code is that of the work."""
    command = [sys.executable, "-m", "iagan", "reconstruct", str(observed), "--prior", prior]
    command += [*QUICK, "--method", "naive", "--method", "pinv", "-o", str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    said = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait() == 0, said
    assert "Traceback" not in said
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"y_naive.png", "y_pinv.png"}


def test_a_figure_shows_truth_observation_and_methods(observed, photo, prior, tmp_path):
    figure = tmp_path / "figure.png"
    argv = ["reconstruct", str(observed), "--prior", prior, "--method", "naive", "--method", "csgm"]
    argv += ["--truth", str(photo), *QUICK, "-o", str(tmp_path / "out"), "--figure", str(figure)]
    assert main(argv) == 0
    width, height = _size(figure)
    assert width > 3 * height / 2


def test_measure_prints_a_record_an_image(photo, tmp_path, capsys):
    other = tmp_path / "other.png"
    with Pillow.open(photo) as picture:
        picture.point(lambda value: min(value + 51, 255)).save(other)
    assert main(["measure", str(photo), str(photo), str(other), "--json"]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["psnr"] is None, "infinite, which JSON cannot say"
    assert 13.9 < second["psnr"] < 18


def test_priors_and_demo(prior, tmp_path, capsys):
    assert main(["priors"]) == 0
    assert "pggan" in capsys.readouterr().out.lower()
    out = tmp_path / "demo"
    assert main(["demo", "--prior", prior, *QUICK, "-o", str(out)]) == 0
    assert (out / "figure.png").exists()
    table = (out / "table.md").read_text()
    assert len(table.splitlines()) == 7
    assert table in capsys.readouterr().out


def test_a_prior_is_trained_resumed_and_used(photo, tmp_path, capsys):
    """The smallest run: its output is a prior that observe takes, and knows what it was called."""
    folder, prior = tmp_path / "pictures", tmp_path / "p.safetensors"
    folder.mkdir()
    for i in range(8):
        shutil.copy(photo, folder / f"{i}.png")
    (folder / "bad.png").write_bytes(b"junk")
    argv = ["train", str(folder), "-o", str(prior), "--size", "32", "--width", "4", "--latent", "4"]
    argv += ["--batch", "2", "--recipe", "began"]
    assert main([*argv, "--steps", "2", "--license", "ours", "--name", "cats"]) == 0
    assert "bad.png" in capsys.readouterr().err
    _refused(capsys, [*argv, "--steps", "3"], "Resume")
    assert main([*argv, "--steps", "3", "--resume"]) == 0
    assert main(_observe(photo, str(prior), tmp_path / "y.npz")) == 0
    known = iagan.load_prior(prior).about
    assert (known.name, known.license) == ("cats", "ours")


@pytest.mark.parametrize(
    ("measurement", "words"),
    [
        (("--operator", "bicubic", "--scale", "5"), ["5", "32"]),
        (("--operator", "bicubic"), ["--scale"]),
        (("--operator", "fourier", "--ratio", "0"), ["(0, 1]"]),
        (("--operator", "fourier", "--ratio", "1.5"), ["(0, 1]"]),
        (("--operator", "gaussian", "--ratio", "2"), ["(0, 1]"]),
        (("--operator", "inpaint", "--mask", "missing.png"), ["missing.png"]),
        (("--operator", "blur", "--size", "0"), ["size"]),
        (("--operator", "denoise", "--noise", "-1"), ["--noise"]),
        (("--operator", "denoise", "--noise", "nan"), ["--noise"]),
        (("--operator", "denoise", "--crop", "0,0,400"), ["400"]),
        (("--operator", "denoise", "--crop", "a,b"), ["LEFT,TOP,SIDE"]),
        (("--operator", "magic"), ["magic"]),
    ],
)
def test_wrong_measurements_are_refused(measurement, words, photo, prior, tmp_path, capsys):
    y = tmp_path / "y.npz"
    _refused(capsys, _observe(photo, prior, y, *measurement), *words)
    assert not y.exists()


@pytest.mark.parametrize(
    "measurement",
    [
        ("--operator", "bicubic", "--scale", "4", "--size", "5"),
        ("--operator", "blur", "--mask", "m.png"),
        ("--operator", "denoise", "--noise", "5", "--ratio", "0.5"),
        ("--scale", "4"),
    ],
)
def test_options_of_another_operator_are_refused(measurement, photo, prior, capsys):
    _refused(capsys, ["reconstruct", photo, "--prior", prior, *measurement], "belongs to")


@pytest.mark.parametrize(
    ("method", "effort"),
    [
        ("naive,csgm", ("--steps", "9")),
        ("pinv,dip", ("--csgm-steps", "9")),
        ("naive", ("--restarts", "2")),
        ("dip", ("--bounded-latent",)),
    ],
)
def test_an_effort_that_changes_no_method_is_told(method, effort, observed, prior, capsys):
    argv = ["reconstruct", str(observed), "--prior", prior, "--method", method, *effort]
    assert main([*argv, "-o", "x.jpg"]) == 2  # told before any work
    assert f"{effort[0]} has no effect here" in capsys.readouterr().err
    argv[-len(effort) - 1] = "iagan,dip"
    assert main([*argv, "-o", "x.jpg"]) == 2
    assert "no effect" not in capsys.readouterr().err


def test_the_noise_of_a_picture_to_denoise_is_estimated(prior, tmp_path, capsys):
    """Without, the picture would come back as it is after all the work."""
    rng = torch.Generator().manual_seed(0)
    iagan.save_image(0.5 + 20 / 255 * torch.randn(1, 3, 32, 32, generator=rng), tmp_path / "y.png")
    argv = ["reconstruct", str(tmp_path / "y.png"), "--prior", prior, *QUICK, "--json"]
    assert main([*argv, "--operator", "denoise", "-o", str(tmp_path / "x.png")]) == 0
    said = capsys.readouterr()
    assert re.search(r"noise of about (19|20|21)\.\d/255", said.err)
    assert json.loads(said.out)["method"] == "iagan"


def test_quiet_leaves_errors_alone(observed, prior, tmp_path, capsys):
    argv = ["reconstruct", str(observed), "--prior", prior, "--method", "naive", "--quiet"]
    for _ in range(2):  # the second time it is skipped
        assert main([*argv, "-o", str(tmp_path / "x.png")]) == 0
    assert capsys.readouterr().err == ""
    _refused(capsys, [*argv, "-o", tmp_path / "x.jpg"], ".png")


def test_lpips_can_be_left_out_everywhere(photo, capsys):
    assert main(["measure", str(photo), str(photo), "--json", "--lpips", "none"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["lpips"] is None
    assert said.err == ""


def test_a_shell_completes_a_line(tmp_path):
    """As the shell's function asks for it: the line, the cursor, and a file for the answer."""
    environment = os.environ | {"_ARGCOMPLETE": "1", "COMP_LINE": "iagan reconst"}
    environment |= {"COMP_POINT": "13", "_ARGCOMPLETE_STDOUT_FILENAME": str(tmp_path / "answer")}
    command = [
        sys.executable,
        "-c",
        "import sys; sys.argv[0] = 'iagan'; import iagan.cli as c; c.main()",
    ]
    subprocess.run(command, env=environment, check=True)
    assert (tmp_path / "answer").read_text().strip() == "reconstruct"


def test_an_observation_says_itself_how_it_was_measured(observed, prior, capsys):
    _refused(capsys, ["reconstruct", observed, "--prior", prior, "--noise", "5"], "leave")


def test_seeds_are_whole_numbers(photo, prior, tmp_path, capsys):
    for seed in ("-1", "9" * 30, "x"):
        _refused(capsys, [*_observe(photo, prior, tmp_path / "y.npz"), f"--seed={seed}"], "2^63")


def test_several_images_do_not_go_into_one_file(prior, tmp_path, capsys):
    y = torch.zeros(2, 3, 32, 32)
    several = iagan.Observation(y, iagan.operators.Identity((3, 32, 32)))
    iagan.save_observation(several, tmp_path / "y.npz")
    argv = ["reconstruct", tmp_path / "y.npz", "--prior", prior, "-o", tmp_path / "x.png"]
    _refused(capsys, argv, "2 images")


def test_a_mask_that_does_not_fit_is_refused(photo, prior, tmp_path, capsys):
    mask = tmp_path / "mask.png"
    Pillow.new("L", (31, 32), 255).save(mask)
    argv = _observe(photo, prior, tmp_path / "y.npz", "--operator", "inpaint", "--mask", str(mask))
    _refused(capsys, argv, "31", "32")


def test_bad_files_are_refused(photo, prior, observed, tmp_path, capsys):
    junk = tmp_path / "junk.png"
    junk.write_bytes(photo.read_bytes()[:100])
    _refused(capsys, _observe(junk, prior, tmp_path / "n.npz"), "junk.png")
    _refused(capsys, _observe(tmp_path / "none.png", prior, tmp_path / "n.npz"), "none.png")
    _refused(capsys, _observe(photo, str(junk), tmp_path / "n.npz"), "junk.png")
    _refused(capsys, _observe(photo, "nobody", tmp_path / "n.npz"), "nobody")
    _refused(capsys, ["reconstruct", junk, "--prior", prior], "junk.png")
    _refused(capsys, ["reconstruct", photo, "--prior", prior], "--operator")
    argv = ["reconstruct", photo, "--prior", prior, "--operator", "fourier", "--ratio", "0.3"]
    _refused(capsys, argv, "iagan observe")
    argv = ["reconstruct", photo, "--prior", prior, "--operator", "denoise"]
    _refused(capsys, argv, "--crop LEFT,TOP,32")


def test_outputs_that_cannot_be_written_are_refused_before_the_work(
    observed, photo, prior, tmp_path, capsys
):
    blocker = tmp_path / "file"
    blocker.write_text("in the way")
    start = ["reconstruct", observed, "--prior", prior]
    _refused(capsys, [*start, "-o", blocker / "out.png"], "Cannot write")
    _refused(capsys, [*start, "-o", tmp_path / "out.jpg"], ".png")
    _refused(capsys, [*start, "--method", "csgm", "--method", "naive", "-o", "x.png"], "folder")
    _refused(capsys, [*start, "-o", tmp_path / "o", "--figure", tmp_path / "f.jpg"], ".png")
    _refused(capsys, _observe(photo, prior, tmp_path / "y"), ".npz")
    _refused(capsys, _observe(photo, prior, blocker / "y.npz"), "Cannot write")


def test_ctrl_c_keeps_what_is_finished(observed, prior, tmp_path, capsys, monkeypatch):
    """The second method is interrupted: the first one's picture stays, and the best image so far of
    the second is kept under another name.
    """

    def interrupt(self, event):
        if event.phase == "iagan":
            raise KeyboardInterrupt

    monkeypatch.setattr(iagan.ProgressBar, "__call__", interrupt)
    out = tmp_path / "out"
    argv = ["reconstruct", str(observed), "--prior", prior, "--method", "csgm", "--method", "iagan"]
    assert main([*argv, *QUICK, "-o", str(out)]) == 130
    assert sorted(path.name for path in out.iterdir()) == ["y_csgm.png", "y_iagan.partial.png"]
    assert _size(out / "y_iagan.partial.png") == _size(out / "y_csgm.png")
    said = capsys.readouterr().err
    assert "the best so far is" in said
    assert said.endswith("stopped; images finished: 1; run the same command again to continue.\n")


@pytest.mark.parametrize("steps", ["1", "9"])
def test_ctrl_c_in_training_says_what_is_kept(steps, photo, tmp_path, capsys, monkeypatch):
    """At step 2: with a checkpoint every step, and before the first one."""

    def interrupt(self, event):
        if event.phase == "adversarial" and event.step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(iagan.ProgressBar, "__call__", interrupt)
    for i in range(4):
        shutil.copy(photo, tmp_path / f"{i}.png")
    argv = ["train", str(tmp_path), "-o", str(tmp_path / "p.safetensors"), "--recipe", "began"]
    argv += ["--size", "32", "--width", "4", "--latent", "4", "--batch", "2", "--steps", "3"]
    assert main([*argv, "--holdout", "0", "--checkpoint-every", steps]) == 130
    said = capsys.readouterr().err
    assert ("--resume" in said) == (steps == "1") == (tmp_path / "p.safetensors").exists()
    assert ("nothing is kept" in said) == (steps == "9")


def test_measure_carries_on_past_a_bad_image(photo, tmp_path, capsys):
    (tmp_path / "bad.png").write_bytes(b"no image")
    assert main(["measure", str(photo), str(tmp_path / "bad.png"), str(photo)]) == 1
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    assert "bad.png" in err


def test_a_folder_in_the_place_of_an_image_is_called_one(photo, tmp_path, capsys):
    _refused(capsys, ["measure", photo, tmp_path], f"{tmp_path} is a folder", f"{tmp_path}/*.png")
    _refused(capsys, ["measure", tmp_path, photo], "is a folder")


def test_a_mask_and_a_ratio_contradict_each_other(photo, prior, tmp_path, capsys):
    measurement = ["--operator", "inpaint", "--mask", str(photo), "--ratio", "0.5"]
    _refused(capsys, ["observe", photo, "--prior", prior, *measurement, "-o", "y.npz"], "--ratio")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_under_the_output_ends_in_words():
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "iagan", "priors"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("iagan priors: standard output could not be written: ")


def test_iagan_alone_prints_its_help(capsys):
    assert main([]) == 0
    assert "iagan reconstruct" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "meant"),
    [
        (["reconstrct", "y.npz"], "Did you mean reconstruct?"),
        (["reconstruct", "y.npz", "--method", "igan"], "Did you mean iagan?"),
        (["observe", "x.png", "-o", "y.npz", "--operator", "bicubik"], "Did you mean bicubic?"),
        (["measure", "x.png", "y.png", "--lpips", "zzz"], "--help"),
        (["reconstruct", "y.npz", "--prior", "face"], "Did you mean faces?"),
    ],
)
def test_a_slip_of_the_pen_is_guessed(argv, meant, capsys):
    try:
        assert main(argv) == 2
    except SystemExit as stop:
        assert stop.code == 2
    said = capsys.readouterr().err
    assert meant in said
    assert said.count("\n") == 1
