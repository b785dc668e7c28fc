"""Reading a call's operands by the names and defaults of the operator's schema."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx


def bound_arguments(node: fx.Node) -> dict[str, Any]:
    """Every argument of a call of an ``OpOverload`` by schema name, defaults filled in.

    Positional or keyword, given or left out: two calls that mean the same give the same mapping.
    """
    assert isinstance(node.target, torch._ops.OpOverload), node.target
    return bind(node.target, node.args, node.kwargs)


def bind(overload: torch._ops.OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Like :func:`bound_arguments`, of a call that is not a node.

    Raises:
        TypeError: too many arguments, or one that the schema lacks or requires.
    """
    bound: dict[str, Any] = {}
    rest = dict(kwargs)
    positional = list(args)
    for arg in overload._schema.arguments:
        if positional and not arg.kwarg_only:
            bound[arg.name] = positional.pop(0)
        elif arg.name in rest:
            bound[arg.name] = rest.pop(arg.name)
        elif arg.has_default_value():
            bound[arg.name] = arg.default_value
        else:
            raise TypeError(f"{overload} needs an argument {arg.name!r}")
    if positional or rest:
        extra = [*map(str, positional), *rest]
        raise TypeError(f"{overload} takes no arguments {', '.join(extra)}")
    return bound


def argument(node: fx.Node, name: str) -> Any:
    """One argument of a call by its schema name."""
    return bound_arguments(node)[name]
