"""How much an untrusted file may ask for: the one place that knows it."""

from __future__ import annotations

import dataclasses as dc

from iagan.errors import SettingError

MIB, GIB = 2**20, 2**30


@dc.dataclass(frozen=True)
class Limits:
    """Bounds on what is read from a file; what exceeds one is refused before it is read.

    Every loader takes `limits`; the defaults suit a laptop, and a page may take smaller ones.

    **Arguments:**
    - `pixels`: of an image or mask; a decoded one takes about 15 bytes a pixel.
    - `array_bytes`: of all arrays of an observation.
    - `weight_bytes`: of all tensors of a prior, and of the images that it makes.
    - `tensors`: of a prior's file.
    - `member_bytes`: of one file in an archive.
    - `entries`: files in an archive or folder of training images.
    - `text_bytes`: of a JSON text, and of a line or file of records.
    - `nesting`: of JSON texts, operators' and methods' specs, and pickled objects.

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
"""The defaults."""
