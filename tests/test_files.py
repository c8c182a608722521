"""Files are whole or not there; nothing but regular files is replaced; no process loses a line."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from iagan import files
from iagan.errors import OutputError, SettingError
from iagan.files import append_line, check_writable, only_process, write_atomically, write_text
from iagan.limits import Limits

posix = pytest.mark.skipif(os.name != "posix", reason="links, modes and signals of POSIX")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_write_that_fails_leaves_what_was_there(tmp_path):
    target = tmp_path / "a"
    write_text(target, "before")

    def fails(stream):
        stream.write(b"half")
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        write_atomically(target, fails)
    assert target.read_text() == "before"
    assert names(tmp_path) == ["a"]


@posix
@pytest.mark.parametrize("kind", ["fifo", "link", "dangling", "folder"])
def test_only_regular_files_are_replaced(kind, tmp_path):
    """A device as /dev/null would otherwise become a file; a link might lead anywhere."""
    target, other = tmp_path / "target", tmp_path / "other"
    other.write_text("precious")
    make = {
        "fifo": lambda: os.mkfifo(target),
        "link": lambda: target.symlink_to(other),
        "dangling": lambda: target.symlink_to(tmp_path / "nowhere"),
        "folder": target.mkdir,
    }
    make[kind]()
    before = target.lstat()
    for write in (lambda: write_text(target, "x"), lambda: check_writable(target)):
        with pytest.raises(OutputError, match="a regular file was expected") as caught:
            write()
        assert "\n" not in str(caught.value)
    assert stat.S_IFMT(target.lstat().st_mode) == stat.S_IFMT(before.st_mode)
    assert other.read_text() == "precious"
    assert names(tmp_path) == ["other", "target"]


@posix
def test_a_replaced_file_keeps_its_mode_and_a_new_one_follows_the_umask(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("before")
    old.chmod(0o600)
    mask = os.umask(0o027)
    try:
        write_text(old, "after")
        write_text(new, "after")
    finally:
        os.umask(mask)
    assert stat.S_IMODE(old.stat().st_mode) == 0o600
    assert stat.S_IMODE(new.stat().st_mode) == 0o640


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the umask")
def test_the_umask_is_not_touched_while_other_threads_make_files(tmp_path):
    mask = os.umask(0o077)
    stop = threading.Event()

    def write():
        while not stop.is_set():
            write_text(tmp_path / "written", "x")

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for i in range(3000):
            (tmp_path / str(i)).touch()
            assert stat.S_IMODE((tmp_path / str(i)).stat().st_mode) == 0o600
    finally:
        stop.set()
        thread.join()
        os.umask(mask)


def test_a_name_of_the_longest_kind_can_be_written(tmp_path):
    target = tmp_path / ("n" * 251 + ".png")
    write_text(target, "x")
    assert target.read_text() == "x"
    with pytest.raises(OutputError, match="Cannot write"):
        write_text(tmp_path / ("n" * 300), "x")
    with pytest.raises(OutputError, match="null"):
        write_text(tmp_path / "a\0b", "x")


def test_what_killed_processes_left_is_removed_an_hour_later(tmp_path):
    for name, age in (("old", 3700), ("young", 3500)):
        part = tmp_path / f"{files.PART_PREFIX}{name}{files.PART_SUFFIX}"
        part.write_text("half")
        os.utime(part, (time.time() - age,) * 2)
    check_writable(tmp_path / "a.png")
    assert names(tmp_path) == [".iagan-young.part"]


def test_what_a_killed_process_left_in_a_folder_of_its_own_is_removed_at_once(tmp_path):
    """Whoever holds the lock is the only one at work there; folders in it count too."""
    part = tmp_path / "images" / "sr-4" / f"{files.PART_PREFIX}x{files.PART_SUFFIX}"
    part.parent.mkdir(parents=True)
    part.write_text("half")
    (part.parent / "a.png").write_text("whole")
    with only_process(tmp_path):
        assert names(part.parent) == ["a.png"]


@posix
def test_a_line_is_whole_or_not_there_on_a_full_disk(tmp_path):
    """The largest size of a file stands for the disk: a write is cut short there, then fails."""
    file = tmp_path / "records.jsonl"
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from iagan.errors import OutputError; from iagan.files import append_line\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (250, resource.RLIM_INFINITY))\n"
        "for i in range(5):\n"
        "    try: append_line(Path(sys.argv[1]), str(i) * 99)\n"
        "    except OutputError: print(i)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True)
    assert done.stdout.split() == ["2", "3", "4"], done.stderr
    assert file.read_text() == "0" * 99 + "\n" + "1" * 99 + "\n"
    append_line(file, "room again")
    assert file.read_text().splitlines()[-1] == "room again"


@posix
def test_a_lock_follows_no_link(tmp_path):
    """A stranger's run folder may hold one; what it points to is left as it is."""
    precious, folder = tmp_path / "precious", tmp_path / "run"
    precious.write_text("precious")
    folder.mkdir()
    (folder / files.LOCK).symlink_to(precious)
    with pytest.raises(OutputError), only_process(folder):
        pass
    assert precious.read_text() == "precious"


@pytest.mark.parametrize("bad", [{"pixels": 0}, {"tensors": 1.5}, {"nesting": True}])
def test_limits_are_counts(bad):
    with pytest.raises(SettingError, match=next(iter(bad))):
        Limits(**bad)
