"""What is public in a package: what the tests of documentation and of the catalog go over."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from tfcore.module import Module


def public(package: ModuleType) -> Iterator[tuple[str, Any]]:
    """Everything public of a package and of the rooms in it: (its full name, the thing)."""
    for info in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        module = importlib.import_module(info.name)
        for name, member in vars(module).items():
            if not name.startswith("_") and getattr(member, "__module__", None) == module.__name__:
                yield f"{info.name}.{name}", member


def needs_an_entry(member: Any) -> bool:
    """Functions that return tensors, and modules; not geometry, checks and tables."""
    if inspect.isclass(member):
        return issubclass(member, Module)
    return callable(member) and "Tensor" in str(inspect.signature(member).return_annotation)
