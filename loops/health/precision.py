"""Whether half precision would pay on this machine: a hint from the processor's flags, or a measurement."""

from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from loops.data.dataset import Dataset
from loops.learner import Learner
from loops.recipes.recipe import Recipe

CHOICES = ("float32", "mixed_bfloat16")  # of --precision auto
CPU_INFO = Path("/proc/cpuinfo")


def hint(recipe: Recipe) -> str | None:
    """Return one line for a float32 run on a CPU that multiplies bfloat16 in hardware; None for any other."""
    if recipe.precision != "float32" or tf.config.list_physical_devices("GPU"):
        return None
    found = bfloat16_products()
    if found is None:
        return None
    return (
        f"hint: this CPU has {found}: --precision mixed_bfloat16 would be faster; --precision auto, of a new run, "
        "measures by how much"
    )


def bfloat16_products() -> str | None:
    """Return the CPU's flag that stands for products of bfloat16 in hardware (x86: amx_bf16, avx512_bf16), or None."""
    try:
        flags = CPU_INFO.read_text().split()
    except OSError:
        return None
    return next((flag for flag in ("amx_bf16", "avx512_bf16") if flag in flags), None)


def choose(recipe: Recipe, dataset: Dataset, report: Callable[[str], None]) -> tuple[Recipe, dict[str, float]]:
    """Return (the recipe in the faster precision, milliseconds of a train step by precision).

    Each is measured with the recipe's own `xla`, auto in its faster mode; the measured steps never happened.

    Raises:
        ValueError: for several devices, on which nothing is measured before they are started.
    """
    if recipe.devices * recipe.workers > 1:
        raise ValueError("precision auto is measured on one device: name a precision, such as mixed_bfloat16")
    milliseconds = {}
    for name in CHOICES:
        learner = Learner(recipe.changed([("precision", name)]), dataset)
        milliseconds[name] = round(1000 * learner.step_seconds(), 2)
    chosen = min(milliseconds, key=lambda name: milliseconds[name])
    ratio = milliseconds["float32"] / milliseconds["mixed_bfloat16"]
    times = ", ".join(f"{name} {ms:.1f} ms a step" for name, ms in milliseconds.items())
    report(f"precision {chosen}: {times}; mixed_bfloat16 is {ratio:.2f} times as fast on this recipe")
    return recipe.changed([("precision", chosen)]), milliseconds
