"""The table of models: a name, what it needs, and the function that builds it."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from benchmarks.zoo.model import Model

Size = Literal["small", "full"]
Builder = Callable[[Size], "Model"]


class MissingRequirement(ImportError):
    """A model needs a package that is not installed; the message names the package and the model."""


@dataclass(frozen=True)
class Entry:
    """What is known of a model before it is built.

    ``weights`` says where the parameters of the *full* size come from.  Small variants have random
    weights with a fixed seed, except those of ``ppocr-*``, which are the same files on a smaller input.
    """

    name: str
    title: str
    kind: Literal["vision", "text", "speech"]
    source: Literal["torch", "onnx"]
    weights: str
    requires: tuple[str, ...]
    build: Builder

    def missing(self) -> tuple[str, ...]:
        """The required packages that are not installed."""
        return tuple(name for name in self.requires if importlib.util.find_spec(name) is None)


_ENTRIES: dict[str, Entry] = {}


def register(
    name: str,
    title: str,
    *,
    kind: Literal["vision", "text", "speech"],
    source: Literal["torch", "onnx"] = "torch",
    weights: str = "random, fixed seed",
    requires: tuple[str, ...] = ("transformers",),
) -> Callable[[Builder], Builder]:
    """Decorator: add a builder ``(size) -> Model`` to the zoo under ``name``."""

    def decorate(build: Builder) -> Builder:
        if name in _ENTRIES:
            raise ValueError(f"two models are called {name!r}")
        _ENTRIES[name] = Entry(name, title, kind, source, weights, requires, build)
        return build

    return decorate


def names(
    *,
    kind: Literal["vision", "text", "speech"] | None = None,
    source: Literal["torch", "onnx"] | None = None,
) -> tuple[str, ...]:
    """Names of the models, in the order of the tables; optionally of one kind or source only."""
    return tuple(
        e.name
        for e in _ENTRIES.values()
        if (kind is None or e.kind == kind) and (source is None or e.source == source)
    )


def entry(name: str) -> Entry:
    """The entry called ``name``.  Raises ``KeyError``, with a suggestion, where there is none."""
    if name in _ENTRIES:
        return _ENTRIES[name]
    close = difflib.get_close_matches(name, _ENTRIES, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(_ENTRIES)}"
    raise KeyError(f"no model is called {name!r}{hint}")


def get(name: str, size: Size = "full") -> Model:
    """Build a model: an ``nn.Module`` in eval mode or an ONNX file, with example inputs.

    ``full`` is the configuration that the name promises, ``small`` a narrow two-layer variant.
    Raises ``KeyError`` for an unknown name and :class:`MissingRequirement` for a missing package.
    """
    if size not in ("small", "full"):
        raise ValueError(f"size is 'small' or 'full', not {size!r}")
    found = entry(name)
    missing = found.missing()
    if missing:
        raise MissingRequirement(
            f"model {name!r} needs {', '.join(missing)}: pip install {' '.join(missing).replace('_', '-')}"
        )
    model = found.build(size)
    return model.named(name, size)
