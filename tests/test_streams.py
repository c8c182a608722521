"""Nothing that is printed can end a command's work, whatever its streams are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

WORK = """
import sys
from pathlib import Path
from iagan.cli.streams import lasting_streams
with lasting_streams() as streams:
    with Path(sys.argv[1]).open("w") as file:
        print("3×4 ‖y‖ Жé", flush=True)
        print("warning ×", file=sys.stderr)
        for _ in range(9):
            print("a line", flush=True)
        file.write("precious")
    lost = streams.lost()
    Path(sys.argv[1] + ".lost").write_text(lost)
"""
"""What stands for a command: it opens a file, prints on both streams, and writes the file."""

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a POSIX shell closes the streams")


def _work(folder: Path, redirection: str, **environment: str) -> tuple[str, bytes]:
    """Why lines were lost, and what was printed, after the file was written as it should be."""
    file = folder / "file"
    shell = f'"$0" -c "$1" "$2" {redirection}'
    done = subprocess.run(
        ["/bin/sh", "-c", shell, sys.executable, WORK, str(file)],
        env=os.environ | environment,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr + done.stdout
    assert file.read_text() == "precious"
    return Path(f"{file}.lost").read_text(), done.stdout


@pytest.mark.parametrize("redirection", ["2>&-", ">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_no_file_takes_the_place_of_a_closed_stream(redirection, tmp_path):
    """It would get the number of the stream, and with it the lines."""
    assert _work(tmp_path, redirection)[0] == ""


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("encoding", "line"),
    [
        ("ascii", b"3\\xd74 \\u2016y\\u2016 \\u0416\\xe9\n"),
        ("cp1252", b"3\xd74 \\u2016y\\u2016 \\u0416\xe9\n"),
        ("utf-8:strict", "3×4 ‖y‖ Жé\n".encode()),
    ],
)
def test_what_an_encoding_lacks_is_escaped(encoding, line, unbuffered, tmp_path):
    environment = {"PYTHONIOENCODING": encoding, "PYTHONUNBUFFERED": unbuffered}
    lost, printed = _work(tmp_path, "", **environment)
    assert lost == ""
    assert printed == line + 9 * b"a line\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_leaves_is_no_failure(unbuffered, tmp_path):
    """Neither of one stream nor of both."""
    for redirection in ("| true", "2>&1 | true"):
        lost, _ = _work(tmp_path, redirection, PYTHONUNBUFFERED=unbuffered)
        assert lost == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_lines_that_found_no_room_are_told(tmp_path):
    assert "No space" in _work(tmp_path, ">/dev/full")[0]
    assert _work(tmp_path, "2>/dev/full")[0] == ""
