"""``graphopt passes``: what passes there are, and what each takes and promises."""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import dataclass, field
from typing import Any

from graphopt.errors import GraphoptError
from graphopt.passmanager.base import CompositePass
from graphopt.passmanager.registry import get_pass, pass_names
from graphopt.passmanager.spec import format_value


@dataclass(frozen=True)
class Option:
    """A field of a pass; ``default`` as a specification writes it, None when it is required."""

    name: str
    type: str
    default: str | None


@dataclass(frozen=True)
class PassDescription:
    """What is known of a pass without running it.

    Attributes:
        summary: the first line of its documentation; ``documentation`` is all of it.
        preserves_training, changes_signature: a string where it depends on the options.
        parts: specifications of a composite's passes.
        problem: why the pass cannot be used, when its package cannot be imported.
    """

    name: str
    summary: str = ""
    documentation: str = ""
    contract: str = ""
    preserves_training: bool | str = True
    changes_signature: bool | str = False
    options: list[Option] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    problem: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def list_passes() -> list[PassDescription]:
    """Every known pass, by name; one whose package is broken is listed with the reason."""
    found = []
    for name in pass_names():
        try:
            found.append(describe_pass(name))
        except GraphoptError as error:
            found.append(PassDescription(name, problem=error.message))
    return found


def describe_pass(name: str) -> PassDescription:
    """One pass.

    Raises:
        UsageError: GO-2001, there is no such pass; GO-2006, two packages offer it.
    """
    cls = get_pass(name)
    options = [_option(f) for f in dataclasses.fields(cls) if f.init]
    parts: list[str] = []
    if issubclass(cls, CompositePass) and all(o.default is not None for o in options):
        parts = [str(p) for p in cls().passes()]
    return PassDescription(
        name,
        cls.summary(),
        inspect.cleandoc(cls.__doc__ or "") if cls.summary() else "",
        str(cls.equivalence),
        _declared(cls.preserves_training),
        _declared(cls.changes_signature),
        options,
        parts,
    )


def _declared(value: Any) -> bool | str:
    """A pass may declare a property, which has a value only with its options."""
    return value if isinstance(value, bool) else "depends on the options"


def _option(option: dataclasses.Field[Any]) -> Option:
    kind = option.type if isinstance(option.type, str) else getattr(option.type, "__name__", str(option.type))
    default = None
    if option.default is not dataclasses.MISSING:
        default = _shown(option.default)
    elif option.default_factory is not dataclasses.MISSING:
        default = _shown(option.default_factory())
    return Option(option.name.replace("_", "-"), kind, default)


def _shown(value: Any) -> str:
    try:
        return format_value(value)
    except TypeError:  # no textual form: only Python can set it
        return repr(value)


__all__ = ["Option", "PassDescription", "describe_pass", "list_passes"]
