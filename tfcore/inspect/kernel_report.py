"""The path of before the rooms, for scripts that know it: see `tfcore.inspect.pages.kernel_report`."""

from tfcore.inspect.pages.kernel_report import text_report

__all__ = ["text_report"]
