"""Kill commands at random moments, start them again, and see that nothing is lost or torn.

make kills N=100 SEED=0

`iagan reconstruct`, `iagan reproduce`, `iagan train` with `--resume`, and the download of a prior
from a slow server are killed (kill -9) in turn, each again and again in one folder until it gets to
its end. After every kill all files must be whole, and what was finished must still be there; at the
end the folder must be, but for rounding, that of a run that nobody killed, with no temporary file.
POSIX only: the processes are forked, so that a start takes no seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses as dc
import hashlib
import http.server
import io
import json
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # forked processes have no threads of PyTorch's
os.environ.setdefault("MPLBACKEND", "agg")

import matplotlib.backends.backend_agg  # noqa: E402, F401
import matplotlib.figure  # noqa: E402, F401
import numpy as np  # noqa: E402
import piq  # noqa: E402, F401
import pooch  # noqa: E402, F401
import safetensors.torch  # noqa: E402
import torch  # noqa: E402
from PIL import Image as Pillow  # noqa: E402

import iagan  # noqa: E402
import iagan.experiments.run  # noqa: E402
import iagan.jobs  # noqa: E402
import iagan.show.report  # noqa: E402
import iagan.train  # noqa: E402
from iagan.cli import main  # noqa: E402
from iagan.files import PART_PREFIX  # noqa: E402
from iagan.priors import About, UniformLatent  # noqa: E402
from iagan.priors.networks.began import Began  # noqa: E402
from iagan.priors.weights import catalog  # noqa: E402

TABLES = ("table.md", "table.csv", "table.tex", "settings.json", "figures")
"""Files of a run that hold times, or are drawn anew at its end."""


@dc.dataclass(frozen=True)
class Victim:
    """A command that works in a folder; its exit code is 0 at the end."""

    name: str
    work: Callable[[Path], int]


def kill_all(kills: int, seed: int, place: Path) -> Counter[str]:
    """Kill each command in turn until there were `kills`.

    Returns counts by what happened. Raises an AssertionError for the first fault.
    """
    rng = random.Random(seed)
    photos, prior = place / "photos", place / "tiny.safetensors"
    _fork_and_wait(lambda: make_inputs(photos, prior), place)
    counts: Counter[str] = Counter()
    with _slow_server(prior.read_bytes()) as address:
        victims = _victims(photos, prior, address)
        references, durations = {}, {}
        for victim in victims:
            begun = time.monotonic()
            _fork_and_wait(lambda v=victim: v.work(place / "once" / v.name), place)
            durations[victim.name] = time.monotonic() - begun
            references[victim.name] = contents_of(place / "once" / victim.name)
        done = 0
        while done < kills:
            victim = min(victims, key=lambda each: counts[f"kills of {each.name}"])
            folder = place / "killed" / f"{victim.name}-{counts['runs']}"
            done += _until_the_end(victim, folder, durations, references, rng, counts, kills - done)
            counts["runs"] += 1
            shutil.rmtree(folder, ignore_errors=True)
    return counts


def _until_the_end(
    victim: Victim,
    folder: Path,
    durations: dict[str, float],
    references: dict[str, dict[str, bytes]],
    rng: random.Random,
    counts: Counter[str],
    most: int,
) -> int:
    """Kill one run up to `most` times, then let it end. How often it was killed."""
    kills = 0
    before: dict[str, bytes] = {}
    log = folder.parent / "log.txt"
    while True:
        process = _fork(lambda: victim.work(folder), log)
        if kills < most:
            time.sleep(rng.uniform(0, durations[victim.name]))
            os.kill(process, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        after = contents_of(folder)
        where = f"{victim.name}, kill {kills + 1} of its run {counts['runs']}"
        check_kept(before, after, where)
        if status != -signal.SIGKILL:
            assert status == 0, f"{where}: exit code {status}: {log.read_text()[-500:]}"
            break
        kills += 1
        counts[f"kills of {victim.name}"] += 1
        parts = _parts(folder)
        counts["temporary files left by a kill"] += len(parts)
        for path in parts:  # as if the next start was two hours later
            with contextlib.suppress(OSError):
                os.utime(path, (time.time() - 7200,) * 2)
        before = after
    check_end(references[victim.name], contents_of(folder), folder, victim.name)
    return kills


def check_kept(before: dict[str, bytes], after: dict[str, bytes], where: str) -> None:
    """Nothing that was finished is gone; of records none is gone, changed or there twice."""
    gone = before.keys() - after.keys()
    assert not gone, f"{where}: {sorted(gone)} gone"
    for name, content in after.items():
        if name.endswith("records.jsonl"):
            lines = content.splitlines()
            keys = [
                tuple(map(json.loads(line).get, ("setting", "method", "image"))) for line in lines
            ]
            assert len(keys) == len(set(keys)), f"{where}: a record twice in {name}"
            assert content.startswith(before.get(name, b"")), f"{where}: records lost in {name}"


def check_end(expected: dict[str, bytes], got: dict[str, bytes], folder: Path, name: str) -> None:
    left = [path.name for path in _parts(folder)]
    assert not left, f"{name}: {left} stayed"
    assert expected.keys() == got.keys(), f"{name}: {sorted(expected.keys() ^ got.keys())}"
    for path, content in expected.items():
        told = any(part in TABLES for part in Path(path).parts)
        same = told or is_alike(path, got[path], content)
        assert same, f"{name}: {path} differs from that of a run that was not killed"


def is_alike(path: str, one: bytes, other: bytes) -> bool:
    """Whether two results are the same. Images that were recovered together with others, which a
    kill changes, may differ by rounding.
    """
    if path.endswith(".jsonl"):
        records = [sorted(map(_key_and_values, each.splitlines())) for each in (one, other)]
        return len(records[0]) == len(records[1]) and all(
            mine == its and all(math.isclose(a, b, rel_tol=1e-5) for a, b in zip(x, y, strict=True))
            for (mine, x), (its, y) in zip(*records, strict=True)
        )
    if path.endswith(".png"):
        x, y = (np.asarray(Pillow.open(io.BytesIO(each)), dtype=int) for each in (one, other))
        return x.shape == y.shape and int(np.abs(x - y).max()) <= 1
    return one == other


def _key_and_values(line: bytes) -> tuple[str, list[float]]:
    """A record's texts and integers, and its real numbers, without the time taken."""
    record = json.loads(line) | {"seconds": None}
    values = [value for value in record.values() if isinstance(value, float)]
    key = {name: None if isinstance(value, float) else value for name, value in record.items()}
    return json.dumps(key), values


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _parts(folder: Path) -> list[Path]:
    """Temporary files."""
    return [
        path
        for path in _files(folder)
        if path.name.startswith(PART_PREFIX) or path.name.endswith(".part")
    ]


def contents_of(folder: Path) -> dict[str, bytes]:
    """Every result by its name, whole: raises where one is torn.

    A last line of records that was cut off, which the next start drops, does not count.
    """
    contents = {}
    for path in sorted(set(_files(folder)) - set(_parts(folder))):
        if path.name.endswith(".lock"):
            continue
        content = path.read_bytes()
        if path.suffix == ".png":
            with Pillow.open(path) as picture:
                picture.load()
        elif path.suffix == ".safetensors":
            safetensors.torch.load(content)
            end = 8 + int.from_bytes(content[:8], "little")
            header = json.dumps(json.loads(content[8:end]), sort_keys=True)  # in any order
            content = header.encode() + content[end:]
        elif path.suffix == ".json":
            json.loads(content)
        elif path.suffix == ".jsonl":
            content = content[: content.rfind(b"\n") + 1]
        contents[str(path.relative_to(folder))] = content
    return contents


def _victims(photos: Path, prior: Path, address: str) -> list[Victim]:
    known = ["--prior", str(prior), "--threads", "1", "--device", "cpu"]

    def command(*argv: str) -> int:
        return main(list(argv))

    def reconstruct(folder: Path) -> int:
        camera = ("--operator", "bicubic", "--scale", "4", "--method", "naive,csgm,iagan")
        return command(
            *("reconstruct", str(photos), *known, *camera, "--csgm-steps", "4", "--steps", "4"),
            *("-o", str(folder)),
        )

    def reproduce(folder: Path) -> int:
        return command(
            *("reproduce", "table2", "--images", str(photos), *known, "--method", "naive,csgm"),
            *("--setting", "sr-4", "--lpips", "none", "--steps-scale", "0.002", "--save-images"),
            *("-o", str(folder)),
        )

    def train(folder: Path) -> int:
        return command(
            *("train", str(photos), "-o", str(folder / "p.safetensors"), "--recipe", "began"),
            *("--size", "32", "--width", "4", "--latent", "4", "--batch", "2", "--steps", "8"),
            *("--holdout", "2", "--checkpoint-every", "2", "--resume", "--device", "cpu"),
        )

    def download(folder: Path) -> int:
        os.environ["IAGAN_HOME"] = str(folder)
        data = prior.read_bytes()
        known = catalog.KnownPrior(
            *("tiny", "began", 32, "tiny.safetensors", "https://example.org", "CC0"),
            address=address,
            sha256=hashlib.sha256(data).hexdigest(),
            bytes=len(data),
        )
        catalog.PRIORS = {"tiny": known}
        iagan.load_prior("tiny")
        return 0

    works = (reconstruct, reproduce, train, download)
    return [Victim(work.__name__, work) for work in works]


def make_inputs(photos: Path, prior: Path, count: int = 6) -> int:
    """Smooth random pictures, and a prior of random weights."""
    rng = torch.Generator().manual_seed(0)
    for i in range(count):
        coarse = torch.rand(1, 3, 5, 5, generator=rng)
        picture = torch.nn.functional.interpolate(coarse, size=(40, 40), mode="bicubic")
        iagan.save_image(picture.clamp(0, 1), photos / f"{i}.png")
    torch.manual_seed(0)
    network = Began(channels=4, size=32, latent=4)
    about = About("tiny", architecture="began")
    iagan.save_prior(iagan.Generator(network, UniformLatent((4,)), about=about), prior)
    return 0


def _fork(work: Callable[[], int], log: Path) -> int:
    """The id of a process that does `work`, and nothing else."""
    log.parent.mkdir(parents=True, exist_ok=True)
    process = os.fork()
    if process:
        return process
    code = 99
    try:
        sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        code = work()
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    finally:
        os._exit(code)


def _fork_and_wait(work: Callable[[], int], place: Path) -> None:
    log = place / "log.txt"
    code = os.waitstatus_to_exitcode(os.waitpid(_fork(work, log), 0)[1])
    assert code == 0, f"exit code {code}: {log.read_text()[-500:]}"


@contextlib.contextmanager
def _slow_server(data: bytes) -> Iterator[str]:
    """Serves `data` in eight pieces, half a second in all."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            piece = len(data) // 8 + 1
            with contextlib.suppress(OSError):  # of a reader that was killed
                for start in range(0, len(data), piece):
                    self.wfile.write(data[start : start + piece])
                    time.sleep(1 / 16)

        def log_message(self, *args: object) -> None:
            """Silent."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{web.server_address[1]}/tiny.safetensors"
        finally:
            web.shutdown()
            thread.join()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kills", type=int, nargs="?", default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = kill_all(args.kills, args.seed, Path(folder))
    for what, number in sorted(found.items()):
        print(f"{number:6} {what}")
