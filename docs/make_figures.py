"""Draw the figures that pages show from docs/images/figures/, with the scripts in docs/figures/.

`digits.png` is the figure of `digits.py`, and `network-forward.png` is that of the function `forward` in `network.py`.
Networks are trained on the reference backend, which needs no compilation. `--check` draws into memory instead, and
lists the stored figures that no longer look the same.
"""

import re
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
    pages = "".join(page.read_text(encoding="utf-8") for page in DOCS.rglob("*.md"))
    stale = []
    for name in sorted(set(re.findall(r"images/figures/([\w-]+)\.png", pages))):
        path, picture = FOLDER / f"{name}.png", draw(*name.split("-"))
        if "--check" not in arguments:
            FOLDER.mkdir(exist_ok=True)
            # A palette needs a third of the bytes, and makes no visible difference in these figures.
            picture.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(path, optimize=True)
        elif not path.exists() or difference(picture, Image.open(path)) > SAME:
            stale.append(path)
            print(f"{path.relative_to(DOCS.parent)}: out of date")
    return 1 if stale else 0


def draw(script: str, function: str = "") -> Image.Image:
    """Return the figure that a script draws when it runs, or that one of its functions draws."""
    import matplotlib.pyplot as plt

    plt.close("all")
    names = runpy.run_path(str(DOCS / "figures" / f"{script}.py"))
    if function:
        names[function]()
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
