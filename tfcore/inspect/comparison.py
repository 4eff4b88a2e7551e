"""The path of before the rooms, for scripts that know it: see `tfcore.inspect.profile.comparison`."""

from tfcore.inspect.profile.comparison import Form, comparison_text

__all__ = ["Form", "comparison_text"]
