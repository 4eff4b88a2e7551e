"""The path of before the rooms, for scripts that know it: see `tfcore.inspect.profile.compiler`."""

from tfcore.inspect.profile.compiler import StepReport, inspect_step

__all__ = ["StepReport", "inspect_step"]
