"""The examples in docs/ run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

LAWS = ("normal", "near")
EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"


def _run(name, folder):
    command = [sys.executable, "-W", "error", str(EXAMPLES / name)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_own_generator_recovers_an_image_of_its_range(tmp_path):
    assert float(re.search(r"PSNR ([\d.]+)", _run("own_generator.py", tmp_path)).group(1)) > 30


def test_own_latent_space_knows_more_than_noise_leaves(tmp_path):
    said = _run("own_latent_space.py", tmp_path)
    normal, near = (float(re.search(rf"{law}: PSNR ([\d.]+)", said).group(1)) for law in LAWS)
    assert near > normal + 5
    assert (tmp_path / "near.safetensors").exists()


def test_a_mean_of_several_runs_is_better_than_nothing(tmp_path):
    said = _run("own_method.py", tmp_path)
    assert float(re.search(r"mean-of: PSNR ([\d.]+)", said).group(1)) > 20


def test_own_measurement_fills_the_scratch(tmp_path):
    said = _run("own_measurement.py", tmp_path)
    naive, dip = map(float, re.findall(r"scratch ([\d.]+)", said))
    assert dip < naive
    assert (tmp_path / "scratched.npz").exists()


def test_own_operator_measures_more_with_two_exposures(tmp_path):
    said = _run("own_operator.py", tmp_path)
    own, function, _, both = map(float, re.findall(r"PSNR ([\d.]+)", said))
    assert own == function
    assert both > own + 10
    assert (tmp_path / "interlaced.npz").exists()


def test_own_executor_recovers_as_this_process_would(tmp_path):
    """CSGM of an image that the generator can make."""
    said = _run("own_executor.py", tmp_path)
    assert float(re.search(r"small_csgm.png: PSNR ([\d.]+)", said).group(1)) > 20
