"""Small graphs as plain data: what the fuzzer draws, mutates, reduces, and writes to disk.

A :class:`Graph` is immutable, compares by value, and knows nothing of tensors or of fx: shapes and dtypes
of its leaves, calls of operators by name, and the names of what it returns.  So a case can be kept in a
JSON file, told apart from another by its hash, and made smaller by leaving parts out;
:mod:`graphopt.fuzz.graphs.build` makes a :class:`~graphopt.ir.program.Program` of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

FLOATS = ("float64", "float32", "float16", "bfloat16")
LAYOUTS = ("contiguous", "transposed", "strided")

Values = Literal["normal", "positive", "unit", "integers"]
Layout = Literal["contiguous", "transposed", "strided"]


@dataclass(frozen=True)
class Ref:
    """The value of a leaf or of a call, as an argument of a later call."""

    name: str


@dataclass(frozen=True)
class TorchConstant:
    """An attribute of ``torch`` as an argument: a dtype, a layout, a memory format, a device."""

    name: str


Argument: TypeAlias = "Ref | TorchConstant | bool | int | float | str | None | tuple[Argument, ...]"


@dataclass(frozen=True)
class Leaf:
    """An input or a weight.

    Attributes:
        name: an identifier.
        shape: sizes; a name is a dynamic axis of an input, and equal names are equal sizes.
        dtype: the name of a torch dtype.
        role: ``input`` | ``weight`` (a parameter, with gradients) | ``constant``.
        values: how elements are drawn: ``normal``; ``positive``, from 0.5 to 1.5; ``unit``, from 0 to 1;
            ``integers``, from ``low`` to ``high``.  Integer dtypes take integers, booleans either.
        low: the least integer.
        high: the greatest integer.
        layout: of an input in memory: ``contiguous`` | ``transposed`` (the last two axes) | ``strided``
            (every second element of a larger tensor).
        given: the elements themselves, row by row, where a pattern needs these and no others.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str = "float32"
    role: Literal["input", "weight", "constant"] = "input"
    values: Values = "normal"
    low: int = 0
    high: int = 4
    layout: Layout = "contiguous"
    given: tuple[float | int | bool, ...] | None = None


@dataclass(frozen=True)
class Call:
    """One operator.

    Attributes:
        name: of its result.
        operator: an overload (``aten.conv2d.default``, ``graphopt.requantize.default``), or
            ``operator.getitem`` for one of several results, or another function of ``operator`` on sizes.
        arguments: by position, as the schema has them.
        keywords: keyword-only arguments, sorted by name.
    """

    name: str
    operator: str
    arguments: tuple[Argument, ...]
    keywords: tuple[tuple[str, Argument], ...] = ()

    @property
    def uses(self) -> tuple[str, ...]:
        """Names of the values that it reads, each as often as it does."""
        return tuple(references((*self.arguments, *(value for _, value in self.keywords))))

    def mapped(self, function: Callable[[Argument], Argument]) -> Call:
        """The call with ``function`` applied to each argument that is no tuple, inside of tuples too."""
        return replace(
            self,
            arguments=tuple(_mapped(a, function) for a in self.arguments),
            keywords=tuple((key, _mapped(a, function)) for key, a in self.keywords),
        )


@dataclass(frozen=True)
class Graph:
    """A computation.

    Attributes:
        leaves: inputs and weights, inputs in the order of the program's.
        calls: in an order in which each reads only what stands before it.
        outputs: names of the values returned, in order; a name may stand there twice, and may be a leaf's.
        sizes: of the dynamic axes, by name, as drawn.
    """

    leaves: tuple[Leaf, ...]
    calls: tuple[Call, ...]
    outputs: tuple[str, ...]
    sizes: tuple[tuple[str, int], ...] = field(default=())

    def __post_init__(self) -> None:
        known: set[str] = set()
        for part in self.values:
            if isinstance(part, Call) and (missing := set(part.uses) - known):
                raise ValueError(f"{part.name!r} reads {', '.join(sorted(missing))}, which nothing defines")
            if part.name in known:
                raise ValueError(f"two values are called {part.name!r}")
            known.add(part.name)
        if missing := set(self.outputs) - known:
            raise ValueError(f"the graph returns {', '.join(sorted(missing))}, which nothing defines")
        if not self.outputs:
            raise ValueError("a graph returns something")
        if unknown := self.dynamic_names() - {name for name, _ in self.sizes}:
            raise ValueError(f"no size is given for {', '.join(sorted(unknown))}")

    @property
    def values(self) -> tuple[Leaf | Call, ...]:
        """Everything with a name: leaves, then calls."""
        return (*self.leaves, *self.calls)

    @property
    def inputs(self) -> tuple[Leaf, ...]:
        return tuple(leaf for leaf in self.leaves if leaf.role == "input")

    @property
    def weights(self) -> tuple[Leaf, ...]:
        return tuple(leaf for leaf in self.leaves if leaf.role != "input")

    @property
    def operators(self) -> tuple[str, ...]:
        """Names of the operators called, in order, without tuple access and arithmetic on sizes."""
        return tuple(c.operator for c in self.calls if not c.operator.startswith("operator."))

    def dynamic_names(self) -> set[str]:
        return {size for leaf in self.leaves for size in leaf.shape if isinstance(size, str)}

    def size_of(self, leaf: Leaf) -> tuple[int, ...]:
        """The shape of a leaf with the sizes drawn for dynamic axes."""
        sizes = dict(self.sizes)
        return tuple(sizes[s] if isinstance(s, str) else s for s in leaf.shape)

    def users(self) -> dict[str, list[str]]:
        """Which calls read each value."""
        found: dict[str, list[str]] = {part.name: [] for part in self.values}
        for call in self.calls:
            for name in dict.fromkeys(call.uses):
                found[name].append(call.name)
        return found

    def without_dead_code(self) -> Graph:
        """The graph without calls and weights that no output needs; inputs stay."""
        needed = set(self.outputs)
        for call in reversed(self.calls):
            if call.name in needed:
                needed.update(call.uses)
        return replace(
            self,
            leaves=tuple(x for x in self.leaves if x.name in needed or x.role == "input"),
            calls=tuple(c for c in self.calls if c.name in needed),
        )

    def renamed(self, names: Mapping[str, str]) -> Graph:
        """The graph with other names for some values."""

        def ref(argument: Argument) -> Argument:
            return Ref(names.get(argument.name, argument.name)) if isinstance(argument, Ref) else argument

        return replace(
            self,
            leaves=tuple(replace(x, name=names.get(x.name, x.name)) for x in self.leaves),
            calls=tuple(replace(c.mapped(ref), name=names.get(c.name, c.name)) for c in self.calls),
            outputs=tuple(names.get(n, n) for n in self.outputs),
        )

    # -- as JSON -------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; :meth:`from_dict` reads it back."""
        return {
            "leaves": [_leaf_to_dict(leaf) for leaf in self.leaves],
            "calls": [_call_to_dict(call) for call in self.calls],
            "outputs": list(self.outputs),
            "sizes": dict(self.sizes),
        }

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Graph:
        """What :meth:`to_dict` wrote.

        Raises:
            ValueError: it is no graph.
        """
        try:
            return Graph(
                tuple(_leaf_from_dict(leaf) for leaf in data["leaves"]),
                tuple(_call_from_dict(call) for call in data["calls"]),
                tuple(str(name) for name in data["outputs"]),
                tuple((str(k), int(v)) for k, v in data.get("sizes", {}).items()),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"malformed graph: {error!r}") from error

    def digest(self) -> str:
        """Sixteen hexadecimal digits that tell graphs apart, names of values included."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __str__(self) -> str:
        lines = [f"{x.name} = {x.role} {x.dtype}[{', '.join(map(str, x.shape))}]" for x in self.leaves]
        for call in self.calls:
            shown = [_shown(a) for a in call.arguments] + [f"{k}={_shown(v)}" for k, v in call.keywords]
            lines.append(f"{call.name} = {call.operator}({', '.join(shown)})")
        return "\n".join([*lines, f"return {', '.join(self.outputs)}"])


def references(argument: Argument) -> Iterator[str]:
    """Names of the values in an argument, in order."""
    if isinstance(argument, Ref):
        yield argument.name
    elif isinstance(argument, tuple):
        for item in argument:
            yield from references(item)


def _mapped(argument: Argument, function: Callable[[Argument], Argument]) -> Argument:
    if isinstance(argument, tuple):
        return tuple(_mapped(item, function) for item in argument)
    return function(argument)


def _shown(argument: Argument) -> str:
    if isinstance(argument, Ref | TorchConstant):
        return argument.name
    if isinstance(argument, tuple):
        return f"[{', '.join(map(_shown, argument))}]"
    return repr(argument)


def _argument_to_json(argument: Argument) -> Any:
    if isinstance(argument, Ref):
        return {"ref": argument.name}
    if isinstance(argument, TorchConstant):
        return {"torch": argument.name}
    if isinstance(argument, tuple):
        return [_argument_to_json(item) for item in argument]
    if isinstance(argument, float) and (argument != argument or argument in (float("inf"), float("-inf"))):
        return {"float": str(argument)}  # JSON has no name for them
    return argument


def _argument_from_json(value: Any) -> Argument:
    if isinstance(value, Mapping):
        ((kind, name),) = value.items()
        kinds: dict[str, Callable[[str], Argument]] = {"ref": Ref, "torch": TorchConstant, "float": float}
        return kinds[kind](str(name))
    if isinstance(value, list):
        return tuple(_argument_from_json(item) for item in value)
    if value is not None and not isinstance(value, bool | int | float | str):
        raise TypeError(f"{value!r} is no argument")
    return value


def _leaf_to_dict(leaf: Leaf) -> dict[str, Any]:
    default = Leaf(leaf.name, leaf.shape)
    changed = {
        key: value
        for key, value in vars(leaf).items()
        if key in ("name", "shape") or value != getattr(default, key)
    }
    changed["shape"] = list(leaf.shape)
    if leaf.given is not None:
        changed["given"] = [_argument_to_json(v) for v in leaf.given]
    return changed


def _leaf_from_dict(data: Mapping[str, Any]) -> Leaf:
    values = dict(data)
    values["shape"] = tuple(s if isinstance(s, str) else int(s) for s in values["shape"])
    if values.get("given") is not None:
        values["given"] = tuple(_argument_from_json(v) for v in values["given"])
    return Leaf(**values)


def _call_to_dict(call: Call) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": call.name,
        "operator": call.operator,
        "arguments": [_argument_to_json(a) for a in call.arguments],
    }
    if call.keywords:
        found["keywords"] = {key: _argument_to_json(a) for key, a in call.keywords}
    return found


def _call_from_dict(data: Mapping[str, Any]) -> Call:
    keywords = data.get("keywords", {})
    return Call(
        str(data["name"]),
        str(data["operator"]),
        tuple(_argument_from_json(a) for a in data["arguments"]),
        tuple(sorted((str(k), _argument_from_json(v)) for k, v in keywords.items())),
    )
