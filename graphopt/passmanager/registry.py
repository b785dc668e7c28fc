"""Passes by name: our own, the user's, and those of installed packages.

A package adds passes through an entry point of the group ``graphopt.passes``, whose name is the
pass's name and whose value is the class::

    [project.entry-points."graphopt.passes"]
    "relu6-to-clip" = "my_package.passes:Relu6ToClip"
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from graphopt.errors import GraphoptError, UsageError, did_you_mean
from graphopt.passmanager.base import Pass
from graphopt.passmanager.spec import PassSpec, format_pipeline, parse_pipeline

GROUP = "graphopt.passes"

PassClass = TypeVar("PassClass", bound=type[Pass])

_registered: dict[str, type[Pass]] = {}
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*\Z")


def register_pass(name: str) -> Callable[[PassClass], PassClass]:
    """Makes a pass known under ``name`` (kebab-case); makes it a frozen dataclass if it is none.

    Raises:
        UsageError: GO-2006, when the name is taken by another class.
        ValueError: the name is not kebab-case.
    """
    if not _NAME.match(name):
        raise ValueError(f"{name!r} is not a kebab-case name")

    def register(cls: PassClass) -> PassClass:
        if "__dataclass_fields__" not in cls.__dict__:
            doc = cls.__doc__
            cls = cast(PassClass, dataclasses.dataclass(frozen=True)(cls))
            cls.__doc__ = doc
        known = _registered.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise UsageError(
                f"pass {name!r} is registered twice: by {known.__module__}.{known.__qualname__} "
                f"and {cls.__module__}.{cls.__qualname__}",
                code="GO-2006",
            )
        cls.name = name
        _registered[name] = cls
        return cls

    return register


def pass_names() -> list[str]:
    """Every known name, sorted; the parts of our own passes too.  Plug-ins are not imported for it."""
    _import_builtin()
    return sorted({*_registered, *_builtin(), *_plugins()})


def get_pass(name: str) -> type[Pass]:
    """The class of a pass.

    Raises:
        UsageError: GO-2001 with a suggestion, when the name is unknown or its package cannot be
            imported; GO-2006, when two packages offer it.
    """
    plugins = _plugins().get(name, [])
    if name not in _registered and name not in _builtin() and not plugins:
        _import_builtin()  # registers the parts of composites
    if name in _registered and not (name in _builtin() and plugins):
        return _registered[name]
    places = [*([_builtin()[name]] if name in _builtin() else []), *plugins]
    if not places:
        raise UsageError(
            f"there is no pass {name!r}",
            code="GO-2001",
            hint=did_you_mean(name, pass_names()) or "`graphopt passes` lists them",
        )
    if len(places) > 1:
        raise UsageError(f"pass {name!r} is offered twice: by {' and '.join(places)}", code="GO-2006")
    cls = _load(name, places[0])
    if name not in _registered:
        register_pass(name)(cls)
    return _registered[name]


def _load(name: str, place: str) -> type[Pass]:
    module, _, attribute = place.partition(":")
    try:
        cls: Any = importlib.import_module(module)
        for part in attribute.split("."):
            cls = getattr(cls, part)
    except GraphoptError:
        raise
    except Exception as error:  # a package of someone else's may raise anything when imported
        raise UsageError(
            f"pass {name!r} cannot be loaded from {place}: {type(error).__name__}: {error}", code="GO-2001"
        ) from error
    if not (isinstance(cls, type) and issubclass(cls, Pass)):
        raise UsageError(f"{place}, offered as pass {name!r}, is not a pass", code="GO-2001")
    return cls


def build_pass(spec: PassSpec | str) -> Pass:
    """A pass from its specification.

    Raises:
        UsageError: the text is malformed, or the pass or an option does not exist.
    """
    if isinstance(spec, str):
        specs = parse_pipeline(spec)
        if len(specs) != 1:
            raise UsageError(f"{spec!r} names {len(specs)} passes, not one", code="GO-2004")
        spec = specs[0]
    return get_pass(spec.name).from_spec(spec)


def build_pipeline(text: str | Sequence[PassSpec | Pass | str]) -> list[Pass]:
    """The passes of a pipeline, from text or from a mix of passes and specifications."""
    items: Sequence[Any] = parse_pipeline(text) if isinstance(text, str) else text
    return [item if isinstance(item, Pass) else build_pass(item) for item in items]


def pipeline_text(passes: Sequence[Pass]) -> str:
    """The opposite of :func:`build_pipeline`."""
    return format_pipeline([p.spec() for p in passes])


def _builtin() -> dict[str, str]:
    from graphopt.passes import BUILTIN

    return BUILTIN


def _import_builtin() -> None:
    for name, place in _builtin().items():
        _load(name, place)


def _plugins() -> dict[str, list[str]]:
    """``module:class`` of the passes that installed packages offer, by name; usually one each."""
    found: dict[str, list[str]] = {}
    for entry in importlib.metadata.entry_points(group=GROUP):
        places = found.setdefault(entry.name, [])
        if entry.value not in places:  # one package may be installed in two places of the path
            places.append(entry.value)
    return found
