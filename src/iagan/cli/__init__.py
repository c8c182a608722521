"""The command line: parsing and printing only. Each command is imported when it runs."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import logging
import os
import re
import sys
from collections.abc import Iterator
from typing import NoReturn

from iagan.cli.allocator import retain_freed_memory
from iagan.cli.streams import lasting_streams
from iagan.errors import IaganError, Interrupted

COMMANDS = {
    "observe": "simulate a measurement y = A x + e of a photograph",
    "reconstruct": "recover photographs from measurements, or from bad photographs",
    "measure": "compare images with the true one: PSNR, SSIM, LPIPS",
    "reproduce": "rerun the paper's tables, ours beside theirs",
    "train": "make a prior from a folder of images",
    "priors": "list the named priors",
    "demo": "recover an astronaut's face, with scores and a picture",
}
"""Every command and its line of help; the module of that name has `add_arguments` and `run`."""

EPILOG = """examples:
  iagan observe face.jpg --prior P --operator bicubic --scale 4 -o y.npz
  iagan reconstruct y.npz --prior P --method iagan-bp --truth face.jpg -o out.png
  iagan reconstruct small-photos/ --prior P --operator bicubic --scale 4 -o recovered/
  iagan measure face.jpg out.png --prior P

P is a checkpoint, or a name from iagan priors.

iagan COMMAND --help shows the options of a command.
"""


class _Formatter(logging.Formatter):
    """A line that begins with its level."""

    def format(self, record: logging.LogRecord) -> str:
        """`warning: …`, or `note: …` for what is only information."""
        kind = "warning" if record.levelno >= logging.WARNING else "note"
        return f"{kind}: {super().format(record)}"


class _Parser(argparse.ArgumentParser):
    """One line for a wrong option, as for every other bad input."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}.{_guess(message)} See '{self.prog} --help'.\n")


class _Version(argparse.Action):
    """Asks for the installed version when it is wanted: that takes longer than all the rest."""

    def __init__(self, option_strings: list[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"iagan {version('iagan')}")
        parser.exit()


def _guess(message: str) -> str:
    """What was meant, where argparse lists what it would have taken."""
    listed = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
    if listed is None:
        return ""
    choices = [choice.strip("' ") for choice in listed.group(2).split(",")]
    close = difflib.get_close_matches(listed.group(1), choices, 1)
    return f" Did you mean {close[0]}?" if close else ""


def build_parser() -> argparse.ArgumentParser:
    """The whole command line. Imports nothing heavy."""
    parser = _Parser(
        prog="iagan",
        description="Recover images from degraded measurements with pretrained generators.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, line in COMMANDS.items():
        command = commands.add_parser(name, help=line, description=f"{line[0].upper()}{line[1:]}.")
        _module(name).add_arguments(command)
        command.add_argument("--quiet", action="store_true", help="print errors only")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit code: 0 done, 1 some files failed, 2 bad input, 130 Ctrl-C.

    A reader of the output that leaves, as `head -1` does, changes nothing: the work is done, and
    the exit code is that of the work.
    """
    with lasting_streams() as streams:
        code, name = _run(argv)
        lost = streams.lost()
        if lost:
            print(f"{name}: standard output could not be written: {lost}.", file=sys.stderr)
        return code or (2 if lost else 0)


def _run(argv: list[str] | None) -> tuple[int, str]:
    """The exit code, and what messages call the command."""
    parser = build_parser()
    _complete(parser)
    if not (sys.argv[1:] if argv is None else argv):
        parser.print_help()
        return 0, parser.prog
    args = parser.parse_args(argv)
    name = f"iagan {args.command}"
    retain_freed_memory()
    try:
        with _logging_to_stderr(args.quiet):
            return int(_module(args.command).run(args)), name
    except KeyboardInterrupt as stop:
        kept = "" if isinstance(stop, Interrupted) else str(stop)
        print(f"\n{name}: stopped{f'; {kept}' if kept else '.'}", file=sys.stderr)
        return 130, name
    except IaganError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2, name


def _module(command: str):  # type: ignore[no-untyped-def]  # a module of this package
    return importlib.import_module(f"iagan.cli.{command}")


def _complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell that asks how a line goes on."""
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)


@contextlib.contextmanager
def _logging_to_stderr(quiet: bool) -> Iterator[None]:
    """A block in which what is logged is printed, unless the caller has a handler of its own."""
    logger = logging.getLogger("iagan")
    before = logger.level, logger.propagate
    logger.setLevel(logging.ERROR if quiet else logging.INFO)
    handler = None if logger.handlers else logging.StreamHandler()
    if handler is not None:
        handler.setFormatter(_Formatter())
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        if handler is not None:
            logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
