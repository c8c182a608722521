"""Make src/iagan/data/astronaut.png from scikit-image's `astronaut` (NASA, public domain).

Scaled and moved so that the eyes lie where CelebA's aligned 178×218 photographs have them, at
(69, 112) and (108, 112). Rows above the portrait's edge repeat its first row.

    python tools/make_astronaut.py
"""

from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

EYES = (204, 101), (246, 103)  # read off the 512×512 portrait
EYES_ALIGNED = (69, 112), (108, 112)
WIDTH, HEIGHT, PADDING = 178, 218, 40

scale = (EYES[1][0] - EYES[0][0]) / (EYES_ALIGNED[1][0] - EYES_ALIGNED[0][0])
middle = np.mean(EYES, axis=0)
aligned = np.mean(EYES_ALIGNED, axis=0)
left, top = middle - scale * aligned + (0, PADDING)
portrait = np.pad(data.astronaut(), ((PADDING, 0), (0, 0), (0, 0)), mode="edge")
picture = Image.fromarray(portrait).resize(
    (WIDTH, HEIGHT),
    Image.Resampling.BICUBIC,
    box=(left, top, left + scale * WIDTH, top + scale * HEIGHT),
)
picture.save(Path(__file__).parents[1] / "src" / "iagan" / "data" / "astronaut.png", optimize=True)
