"""Which axes of a module's arguments vary, from what the user writes to what torch.export takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.export import Dim

DynamicShapes = Mapping[str, Any] | Sequence[Any] | None


class DynamicAxes:
    """The user's dynamic shapes.

    Args:
        given: as ``torch.export.export`` takes it, one entry an argument (those that ``*args``
            collects one by one), where an axis may also be given a plain name: axes of one name are
            the same dimension.
    """

    def __init__(self, given: DynamicShapes) -> None:
        self.given = given
        self._dims: dict[str, Any] = {}

    @property
    def uses_plain_names(self) -> bool:
        """Whether some axis is given by a name alone, which promises no range."""
        found: list[str] = []
        self._convert(self.given, lambda name: found.append(name))
        return bool(found)

    def named(self, module: torch.nn.Module) -> Any:
        """For torch.export: one ``Dim`` a plain name, so that axes of one name are one symbol."""
        return _group_varargs(module, self._convert(self.given, self._dim))

    def automatic(self, module: torch.nn.Module) -> Any:
        """For torch.export: ``Dim.AUTO`` for plain names, so that it may fix or relate axes."""
        return _group_varargs(module, self._convert(self.given, lambda name: Dim.AUTO))

    def _dim(self, name: str) -> Any:
        return self._dims.setdefault(name, Dim(name))

    def _convert(self, spec: Any, of_name: Callable[[str], Any]) -> Any:
        if isinstance(spec, str):
            return of_name(spec)
        if isinstance(spec, Mapping):
            return {k: self._convert(v, of_name) for k, v in spec.items()}
        if isinstance(spec, (list, tuple)):
            return type(spec)(self._convert(v, of_name) for v in spec)
        return spec

    def names(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[tuple[int, int], str]:
        """``(flat tensor index, axis)`` to the dimension's name, for every axis that has one."""
        found: dict[tuple[int, int], str] = {}
        index = 0

        def visit(tensor: torch.Tensor, axes: Mapping[int, Any]) -> torch.Tensor:
            nonlocal index
            for axis, dim in axes.items():
                name = dim if isinstance(dim, str) else getattr(dim, "__name__", None)
                if isinstance(name, str) and name.isidentifier():  # derived dims are called "2*x"
                    found[index, axis] = name
            index += 1
            return tensor

        self._visit(args, kwargs, visit)
        return found

    def without_ones(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The example arguments, with every varying axis of size 1 repeated once.

        torch.export takes an axis whose example has size 1 for one that is always 1.
        """

        def visit(tensor: torch.Tensor, axes: Mapping[int, Any]) -> torch.Tensor:
            for axis, dim in axes.items():
                if tensor.shape[axis] == 1 and dim is not None and not isinstance(dim, int):
                    tensor = tensor.repeat_interleave(2, dim=axis)
            return tensor

        return self._visit(args, kwargs, visit)

    def _visit(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        visit: Callable[[torch.Tensor, Mapping[int, Any]], torch.Tensor],
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if isinstance(self.given, Mapping):
            # Keyed by parameter name: in the order of the parameters, as the arguments are.
            entries = list(self.given.values())
        else:
            entries = list(self.given or ())
        entries += [None] * (len(args) + len(kwargs) - len(entries))
        new_args = tuple(_walk(a, s, visit) for a, s in zip(args, entries, strict=False))
        new_kwargs = {
            k: _walk(v, s, visit) for (k, v), s in zip(kwargs.items(), entries[len(args) :], strict=False)
        }
        return new_args, new_kwargs


def _walk(value: Any, spec: Any, visit: Callable[[torch.Tensor, Mapping[int, Any]], torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        axes = spec if isinstance(spec, Mapping) else dict(enumerate(spec or ()))
        return visit(value, axes)
    if isinstance(value, Mapping):
        return {k: _walk(v, spec[k] if spec else None, visit) for k, v in value.items()}
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return type(value)(_walk(v, spec[i] if spec else None, visit) for i, v in enumerate(value))
    return value


def _group_varargs(module: torch.nn.Module, shapes: Any) -> Any:
    """One entry an argument to one entry a *parameter* of ``forward``.

    torch.export wants the shapes of everything that ``*args`` collects as one tuple.
    """
    if not isinstance(shapes, (list, tuple)):
        return shapes
    kinds = [p.kind for p in inspect.signature(module.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return shapes
    named = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    return (*shapes[:named], tuple(shapes[named:]))
