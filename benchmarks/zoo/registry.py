"""Finding models by name and building them."""

from __future__ import annotations

import difflib
from importlib import import_module
from typing import TYPE_CHECKING, Literal

from benchmarks.zoo.table import ENTRIES, Entry, Kind, Source

if TYPE_CHECKING:
    from benchmarks.zoo.model import Model

Size = Literal["small", "full"]


class MissingRequirement(ImportError):
    """A model needs a package that is not installed; the message names the package and the model."""


def names(*, kind: Kind | None = None, source: Source | None = None) -> tuple[str, ...]:
    """Names of the models, in the order of the tables; optionally of one kind or source only."""
    return tuple(e.name for e in ENTRIES if (kind is None or e.kind == kind) and source in (None, e.source))


def entry(name: str) -> Entry:
    """The entry called ``name``.  Raises ``KeyError``, with a suggestion, where there is none."""
    for found in ENTRIES:
        if found.name == name:
            return found
    close = difflib.get_close_matches(name, names(), n=1)
    hint = f"; did you mean {close[0]!r}?" if close else f"; there are: {', '.join(names())}"
    raise KeyError(f"no model is called {name!r}{hint}")


def get(name: str, size: Size = "full") -> Model:
    """Build a model: an ``nn.Module`` in eval mode or an ONNX file, with example inputs.

    ``full`` is the configuration that the name promises, ``small`` a narrow two-layer variant.
    Raises ``KeyError`` for an unknown name and :class:`MissingRequirement` for a missing package.
    """
    if size not in ("small", "full"):
        raise ValueError(f"size is 'small' or 'full', not {size!r}")
    return build(entry(name), size)


def build(entry: Entry, size: Size) -> Model:
    """:func:`get` for an entry at hand."""
    missing = entry.missing()
    if missing:
        packages = " ".join(_DISTRIBUTIONS.get(m, m).replace("_", "-") for m in missing)
        raise MissingRequirement(f"model {entry.name!r} needs {', '.join(missing)}: pip install {packages}")
    module, function = entry.builder.split(":")
    model: Model = getattr(import_module(f"benchmarks.zoo.{module}"), function)(size)
    return model.named(entry.name, size)


_DISTRIBUTIONS = {"PIL": "pillow"}
