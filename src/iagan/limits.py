"""Limits on untrusted files, the same for all loaders."""

from __future__ import annotations

import dataclasses as dc

from iagan.errors import SettingError

MIB, GIB = 2**20, 2**30


@dc.dataclass(frozen=True)
class Limits:
    """Bounds on the contents of files; a file that exceeds one is refused before it is read.

    Every loader has an argument `limits`; the defaults suit a laptop, a web server may use smaller
    ones.

    **Arguments:**
    - `pixels`: pixels of an image or mask; decoding takes about 15 bytes per pixel.
    - `array_bytes`: bytes of all arrays of an observation.
    - `weight_bytes`: bytes of all tensors of a prior, and of the images that it generates.
    - `tensors`: number of tensors of a prior.
    - `member_bytes`: bytes of one file in an archive.
    - `entries`: files in an archive or folder of training images.
    - `text_bytes`: bytes of a JSON text, and of a line or file of records.
    - `nesting`: nesting depth of JSON texts, specs of operators and methods, and pickled objects.

    **Raises:** `SettingError` for a limit below 1.
    """

    pixels: int = 50_000_000
    array_bytes: int = 256 * MIB
    weight_bytes: int = 512 * MIB
    tensors: int = 10_000
    member_bytes: int = 64 * MIB
    entries: int = 1_000_000
    text_bytes: int = 64 * MIB
    nesting: int = 64

    def __post_init__(self) -> None:
        for field in dc.fields(self):
            value = getattr(self, field.name)
            if type(value) is not int or value < 1:
                raise SettingError(
                    f"Limits expects {field.name} as an integer of at least 1; got {value!r}."
                )


LIMITS = Limits()
"""The default limits."""
