"""What a model or an optimizer is made of: one frozen dataclass beside each, which refuses what cannot work."""

import dataclasses
from collections.abc import Collection


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The base of all of them: checks whose errors name the owner, the field, what is allowed and what was given."""

    def check(self, field: str, ok: bool, wanted: str) -> None:
        """Raise ValueError, in the words that `field` must be `wanted`, unless `ok`."""
        if not ok:
            raise ValueError(f"{self._owner()}: {field} must be {wanted}, got {getattr(self, field)!r}")

    def check_one_of(self, field: str, known: Collection[str]) -> None:
        """Raise ValueError unless the field is one of the words `known`."""
        self.check(field, getattr(self, field) in known, f"one of {', '.join(known)}")

    def refuse_unused(self, used: bool, fields: Collection[str], user: str) -> None:
        """Raise ValueError for a field that differs from its default, unless they are `used`; `user` would use it."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for field in fields:
            value = getattr(self, field)
            if not used and value != defaults[field]:
                raise ValueError(
                    f"{self._owner()}: {field} is for {user}, and nothing uses {value!r} here: choose that, "
                    f"or leave {field} out"
                )

    def _owner(self) -> str:
        return type(self).__name__.removesuffix("Config")
