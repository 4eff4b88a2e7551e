"""Series that are not whole: missing values and unequal lengths are refused, unless a setting says how they are mended.

`missing="linear"`: a missing value lies on the line between its neighbours; before the first value there is, and after
the last, it is that value. `lengths="pad"`: a series ends with its last value, and zeros stand behind it.
"""

import dataclasses

import numpy as np

from loops.data.dataset import DataError
from loops.data.series_files import REMEDY, Line

MISSING = ("refuse", "linear")
LENGTHS = ("refuse", "pad")


@dataclasses.dataclass(frozen=True)
class Repair:
    """What is made of missing values and of unequal lengths."""

    missing: str = "refuse"
    lengths: str = "refuse"

    @property
    def pads(self) -> bool:
        """Whether shorter series are padded."""
        return self.lengths == "pad"

    def begin(self) -> "Repairer":
        """Return a repairer, which counts what it repairs."""
        return Repairer(self)

    def in_words(self, counts: dict[str, int], length: int) -> str:
        """Return what was repaired, as the end of a sentence."""
        words = ""
        if "filled_values" in counts:
            words += f", {counts['filled_values']:,} missing values filled in linearly"
        if "padded_series" in counts:
            words += f", {counts['padded_series']:,} series padded with zeros to {length} values"
        return words


STRICT = Repair()


class Repairer:
    """Makes series whole, one after the other; `counts` says how often, of what may be repaired at all."""

    def __init__(self, repair: Repair):
        self.repair = repair
        self.counts: dict[str, int] = {}
        if repair.missing == "linear":
            self.counts["filled_values"] = 0
        if repair.pads:
            self.counts["padded_series"] = 0

    def clean(self, line: Line) -> np.ndarray:
        """Return a line's values (length,) float64, all of them finite.

        Raises:
            DataError: for missing values that the settings do not repair.
        """
        values = line.values
        present = np.flatnonzero(~np.isnan(values))
        if not len(present):
            raise DataError(f"{line.place}: all values are missing, expected a series; leave the line out")
        end = present[-1] + 1
        if end < len(values):
            if not self.repair.pads:
                raise DataError(
                    f"{line.place}: the series ends after {end} of {len(values)} values, then they are missing, "
                    "expected series of one length; take series of several lengths, filled up with zeros, by --set "
                    "lengths=pad, or give the archive's adjusted version of the set"
                )
            values = values[:end]
        gaps = np.isnan(values)
        if gaps.any():
            if "filled_values" not in self.counts:
                column = int(gaps.argmax()) + 1 + (line.first is not None)
                raise DataError(
                    f"{line.place}: column {column} is a missing value (NaN, ? or empty), expected a finite number; "
                    f"have it filled in by --set missing=linear, or {REMEDY}"
                )
            self.counts["filled_values"] += int(gaps.sum())
            there = np.flatnonzero(~gaps)
            values = np.interp(np.arange(len(values)), there, values[there])
        return values

    def fit(self, line: Line, values: np.ndarray, length: int, where: str) -> np.ndarray:
        """Return clean values as (length,) float32.

        Raises:
            DataError: for another length that the settings do not repair; `where` says who has the length.
        """
        if len(values) != length and not (self.repair.pads and len(values) < length):
            hint = "" if self.repair.pads else ", or have shorter series filled up with zeros by --set lengths=pad"
            what = f"{len(values)} value{'s' * (len(values) != 1)}" + " after the label" * (line.first is not None)
            raise DataError(f"{line.place}: {what}, expected {length} as {where}; {REMEDY}{hint}")
        if len(values) < length:
            self.counts["padded_series"] += 1
            values = np.concatenate([values, np.zeros(length - len(values))])
        return values.astype(np.float32)
