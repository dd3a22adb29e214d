"""Draw the figures of the course: run the scripts in docs/figures/ and write docs/images/figures/.

Their networks train on the reference backend, which needs no compilation. `--check` draws into memory instead, and
lists the stored figures that no longer look the same.
"""

import runpy
import sys
from io import BytesIO
from pathlib import Path

import matplotlib as mpl
import numpy as np
from PIL import Image

DOCS = Path(__file__).resolve().parent
FOLDER = DOCS / "images" / "figures"
SAME = 0.02  # the mean difference of two thumbnails, from 0 to 1; another version of Matplotlib stays below


def main(arguments: list[str]) -> int:
    """Draw all figures, or check them; return the exit code."""
    mpl.use("agg")
    stale = []
    for script in sorted((DOCS / "figures").glob("*.py")):
        path, picture = FOLDER / f"{script.stem}.png", draw(script)
        if "--check" not in arguments:
            FOLDER.mkdir(exist_ok=True)
            # A palette needs a third of the bytes, and makes no visible difference in these figures.
            picture.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(path, optimize=True)
        elif not path.exists() or difference(picture, Image.open(path)) > SAME:
            stale.append(path)
            print(f"{path.relative_to(DOCS.parent)}: out of date")
    return 1 if stale else 0


def draw(script: Path) -> Image.Image:
    """Return the figure that a script draws."""
    import matplotlib.pyplot as plt

    plt.close("all")
    runpy.run_path(str(script))
    (number,) = plt.get_fignums()
    buffer = BytesIO()
    plt.figure(number).savefig(buffer, dpi=144)
    return Image.open(buffer).convert("RGB")


def difference(one: Image.Image, other: Image.Image) -> float:
    """Return the mean difference of two pictures, shrunk to the same small size."""
    thumbnails = [
        np.asarray(picture.convert("L").resize((160, 90), Image.Resampling.BOX), float) for picture in (one, other)
    ]
    return float(np.abs(thumbnails[0] - thumbnails[1]).mean() / 255)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
