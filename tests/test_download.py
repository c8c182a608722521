"""Fetching priors by name, from a server of our own: whole and right, or not there."""

from __future__ import annotations

import concurrent.futures
import dataclasses as dc
import hashlib
import http.server
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from iagan import Event, load_prior, save_prior
from iagan.errors import CheckpointError, FileError, OutputError
from iagan.priors import About, UniformLatent
from iagan.priors.generator import Generator
from iagan.priors.networks.began import Began
from iagan.priors.weights import catalog
from iagan.priors.weights.download import ExpectedFile, download


@dc.dataclass
class Server:
    """Serves `data`; breaks off after `limit` bytes."""

    data: bytes
    address: str = ""
    limit: int | None = None
    length: str = ""
    requests: int = 0

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        self.requests += 1
        handler.send_response(200)
        handler.send_header("Content-Length", self.length or str(len(self.data)))
        handler.end_headers()
        handler.wfile.write(self.data[: self.limit])


@pytest.fixture
def server(checkpoint):
    served = Server(checkpoint)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.answer(self)

        def log_message(self, *args: object) -> None:
            """Silent."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        served.address = f"http://127.0.0.1:{web.server_address[1]}/prior.safetensors"
        yield served
        web.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("prior") / "small.safetensors"
    torch.manual_seed(0)
    network = Began(channels=16, size=32, latent=8)
    save_prior(Generator(network, UniformLatent((8,)), about=About("small")), path)
    return path.read_bytes()


@pytest.fixture
def named(server, checkpoint, tmp_path, monkeypatch) -> catalog.KnownPrior:
    """A prior in the list, whose file the server has."""
    prior = catalog.KnownPrior(
        "small", "began", 32, "small.safetensors", "https://example.org", "CC0",
        address=server.address, sha256=hashlib.sha256(checkpoint).hexdigest(),
        bytes=len(checkpoint),
    )  # fmt: skip
    monkeypatch.setattr(catalog, "PRIORS", {"small": prior})
    monkeypatch.setenv("IAGAN_HOME", str(tmp_path / "home"))
    return prior


def _left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_named_prior_is_fetched_once_and_says_its_license(named, server, tmp_path, caplog):
    assert named.availability == "downloadable"
    events: list[Event] = []
    first = load_prior("small", on_event=events.append)
    assert {event.phase for event in events} == {"download"}
    steps = [event.step for event in events]
    assert steps == sorted(steps) and len(steps) > 1
    assert (steps[-1], events[-1].total) == (named.bytes, named.bytes)
    assert first.about.license == "CC0"
    assert "license: CC0" in caplog.text
    assert named.availability == "downloaded"
    again = load_prior("small")
    assert server.requests == 1
    z = torch.zeros(1, 8)
    torch.testing.assert_close(first(z), again(z), rtol=0, atol=0)
    assert _left(tmp_path / "home") == ["small.safetensors"]


def test_a_download_that_broke_off_leaves_nothing(named, server, tmp_path):
    server.limit = len(server.data) // 2
    with pytest.raises(FileError, match="Cannot download .*Try again"):
        load_prior("small")
    assert _left(tmp_path / "home") == []
    server.limit = None
    load_prior("small")
    assert (tmp_path / "home" / "small.safetensors").read_bytes() == server.data


def test_a_server_that_lies_about_the_length_ends_in_one_line(named, server, tmp_path):
    """A length that is no number; more data than the file has, which are not all written."""
    server.length = "12abc"
    with pytest.raises(FileError, match="Cannot download .*12abc"):
        load_prior("small")
    server.data, server.length = server.data * 100, ""
    with pytest.raises(FileError, match=rf"sends more than the expected {named.bytes} bytes"):
        load_prior("small")
    assert _left(tmp_path / "home") == []


def test_a_callback_that_raises_a_value_error_is_heard(named):
    def refuse(event):
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        load_prior("small", on_event=refuse)


def test_another_file_than_the_known_one_is_refused_and_deleted(named, server, tmp_path):
    server.data = server.data[:-1] + b"x"
    with pytest.raises(CheckpointError, match="expected SHA-256 .*, got") as caught:
        load_prior("small")
    assert "\n" not in str(caught.value)
    assert _left(tmp_path / "home") == []


def test_without_a_known_hash_the_structure_decides(server, tmp_path, named, monkeypatch):
    unknown = dc.replace(named, sha256="", bytes=0)
    assert unknown.verified_by == "structure only"
    monkeypatch.setattr(catalog, "PRIORS", {"small": unknown})
    server.data = b"<html>sign in first</html>"
    with pytest.raises(CheckpointError):
        load_prior("small")
    assert _left(tmp_path / "home") == []
    assert "structure only" in unknown.describe()


def test_facts_agree_with_git_and_with_the_beginning_of_a_hash(tmp_path):
    """Git's own name of the file "hello\\n" is published in its manual."""
    path = tmp_path / "hello"
    path.write_bytes(b"hello\n")
    blob = "ce013625030ba8dba906f756967f9e9ca394464a"
    sha256 = hashlib.sha256(b"hello\n").hexdigest()
    assert ExpectedFile(6, sha256[:8], blob).mismatch(path) == ""
    assert "git blob" in ExpectedFile(6, sha256[:8], "00" + blob[2:]).mismatch(path)
    assert "7 bytes" in ExpectedFile(7).mismatch(path)


def test_an_absent_server_and_an_absent_file_end_in_one_line(named, server, tmp_path):
    def fetch(address: str) -> None:
        download(address, tmp_path / "x", ExpectedFile(), lambda path: None)

    for address in ("http://127.0.0.1:9/x", "http://no-such-host.invalid/x", "file:///no/where"):
        with pytest.raises(FileError, match=r"Cannot download .*Try again") as caught:
            fetch(address)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "x").exists()


def test_two_processes_do_not_fetch_the_same_file(named, server, tmp_path):
    """The other one, a process of its own, holds the lock until it has put the file there."""
    home = tmp_path / "home"
    program = f"""
import sys
from pathlib import Path
from iagan.files import locked
with locked(Path({str(home)!r}) / "small.safetensors.lock") as held:
    print(held, flush=True)
    (Path({str(home)!r}) / "small.safetensors").write_bytes(sys.stdin.buffer.read())
"""
    command = [sys.executable, "-c", program]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other,
        concurrent.futures.ThreadPoolExecutor() as pool,
    ):
        assert other.stdout.readline() == b"True\n"
        waiting = pool.submit(load_prior, "small")
        time.sleep(0.5)
        assert not waiting.done()
        other.communicate(server.data)
        waiting.result(60)
    assert server.requests == 0


def test_a_folder_that_cannot_be_written_is_named(named, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("IAGAN_HOME", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="IAGAN_HOME"):
        load_prior("small")
