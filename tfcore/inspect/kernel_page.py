"""The path of before the rooms, for scripts that know it: see `tfcore.inspect.pages.kernel_page`."""

from tfcore.inspect.pages.kernel_page import html_report

__all__ = ["html_report"]
