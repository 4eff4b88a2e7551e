"""Models and optimizers from flat settings, as a test writes them."""

import dataclasses
import typing


def build(kind, *args, **settings):
    """kind(*args, config=..., ...): the settings that are fields of its config make that, the others are its own."""
    config = typing.get_type_hints(kind.__init__)["config"]
    fields = {field.name for field in dataclasses.fields(config)}
    own = {name: settings.pop(name) for name in list(settings) if name in fields}
    return kind(*args, config=config(**own), **settings)
