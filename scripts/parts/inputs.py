"""Pictures and series that a user names, as a model's inputs."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from loops.recipes.recipe import Recipe


def inputs_of(
    recipe: "Recipe", length: int, class_names: "Sequence[str]", file: Path
) -> tuple[list[dict], "np.ndarray"]:
    """What a file holds: a name for each example, and the inputs (n, H, W, 3), or (n, length, 1) of series.

    Raises:
        DataError: for a file that is missing, damaged or of another kind or size.
    """
    import numpy as np

    from loops.data import ucr
    from loops.data.cifar import LAYOUTS
    from loops.data.dataset import IMAGE_SIZE
    from loops.evaluation import read_picture

    if recipe.dataset in LAYOUTS:
        picture = read_picture(file, IMAGE_SIZE)
        if len(np.unique(picture.reshape(-1, 3), axis=0)) == 2:
            print(f"note: {file}: two colours alone, as of 1 bit a pixel: a model sees no shades", file=sys.stderr)
        return [{"image": str(file)}], picture[None]
    inputs = ucr.read_series(file, length=length, class_names=class_names, repair=recipe.repair)
    return [{"file": str(file), "line": i + 1} for i in range(len(inputs))], inputs
