"""Learning what a model demands of its dynamic sizes, by evaluating it on symbolic shapes.

The model runs once on fake tensors whose sizes are symbols with an example value.  torch records
each fact about sizes that the run relied on ("guards").  When the run fails, the last such fact says
which sizes did not fit: two sizes that differ and had to be equal.  New example sizes are drawn that
satisfy it, and the model runs again; so a decoder's ``mask = past + sequence`` is found, and the
height of 48 that a text recogniser needs.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import sympy
import torch

from graphopt._torch import (
    ConstantSource,
    DimDynamic,
    FakeTensorMode,
    ShapeEnv,
    StatelessSymbolicContext,
    enable_python_dispatcher,
    recurrent_layers_of_any_length,
)
from graphopt.errors import GraphoptError, InputError
from graphopt.frontends.onnx.call import SizeError
from graphopt.frontends.onnx.dims import Dimension, InputShape
from graphopt.frontends.onnx.interpreter import OnnxModule
from graphopt.frontends.onnx.limits import LARGEST_INPUT

_ATTEMPTS = 24
_LARGEST_SIZE = 2048
_SMALL = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
_SPATIAL = (64, 96, 160, 224, 256, 320, 384, 448)


@dataclass
class Facts:
    """What one successful run relied on.

    Attributes:
        sizes: example size of each dimension with which the model runs.
        fixed: dimensions that can have one size only, and the node that fixes each.
        conditions: equalities between expressions of dimensions that do not always hold, each with
            the node that needs it.
    """

    sizes: dict[str, int]
    fixed: dict[str, tuple[int, str]] = field(default_factory=dict)
    conditions: list[tuple[sympy.Basic, str]] = field(default_factory=list)


def learn_facts(
    module: OnnxModule,
    shapes: Sequence[InputShape],
    dtypes: Sequence[torch.dtype],
    dimensions: Mapping[str, Dimension],
) -> Facts:
    """Finds example sizes with which the model runs, and what it demands of them.

    Raises:
        InputError: what the model's nodes raise, when no sizes help.
    """
    sizes = _first_sizes(shapes, dtypes, dimensions)
    demands: list[sympy.Basic] = []
    for _ in range(_ATTEMPTS):
        run = _Run(module, shapes, dtypes, sizes)
        try:
            run.evaluate()
        except GraphoptError as error:
            demand = run.demand_of(error)
            demand = run.last_difference() if demand is None else demand
            if demand is None or demand in demands:
                raise
            demands.append(demand)
            found = _solve(demands, sizes, dimensions, demand)
            if found is None:
                raise
            sizes = found
            continue
        return run.facts()
    raise AssertionError("unreachable: every attempt adds a demand")


class _Run:
    """One evaluation on symbolic shapes."""

    def __init__(
        self,
        module: OnnxModule,
        shapes: Sequence[InputShape],
        dtypes: Sequence[torch.dtype],
        sizes: Mapping[str, int],
    ) -> None:
        self.module = module
        self.shapes = shapes
        self.dtypes = dtypes
        self.sizes = dict(sizes)
        self.env = ShapeEnv()
        self.symbols: dict[sympy.Symbol, str] = {}
        self.constant: dict[str, int] = {}
        self.blame: list[str] = []

    def evaluate(self) -> None:
        mode = FakeTensorMode(shape_env=self.env)
        inputs = [self._input(mode, i, s) for i, s in enumerate(self.shapes)]

        def record(node: str) -> None:
            self.blame.extend([node] * (len(self.env.guards) - len(self.blame)))

        self.module.on_node, self.module.fake_mode = record, mode
        # A size that does not fit is no error here, and torch logs every one.
        log = logging.getLogger("torch._subclasses.fake_tensor")
        level = log.level
        log.setLevel(logging.CRITICAL)
        try:
            with (
                mode,
                torch.no_grad(),
                enable_python_dispatcher(),
                recurrent_layers_of_any_length(),
            ):
                self.module(*inputs)
        finally:
            log.setLevel(level)
            self.module.on_node = self.module.fake_mode = None

    def _input(self, mode: FakeTensorMode, index: int, spec: InputShape) -> torch.Tensor:
        concrete = [s if isinstance(s, int) else self.sizes[s] for s in spec.shape]
        context: StatelessSymbolicContext = StatelessSymbolicContext(
            dynamic_sizes=[
                DimDynamic.STATIC if isinstance(s, int) else DimDynamic.DYNAMIC for s in spec.shape
            ],
            constraint_sizes=[None] * len(concrete),
        )
        if math.prod(concrete) > LARGEST_INPUT:
            raise InputError(
                f"input {spec.name!r} of shape {concrete} has more than {LARGEST_INPUT} elements",
                code="GO-3006",
            )
        # Its pages are never touched, so it takes no memory.
        example = torch.empty(concrete, dtype=self.dtypes[index])
        fake = mode.from_tensor(example, symbolic_context=context, source=ConstantSource(f"input_{index}"))
        for size, name in zip(fake.shape, spec.shape, strict=True):
            if isinstance(name, str) and isinstance(size, torch.SymInt):
                self.symbols[size.node.expr] = name
            elif isinstance(name, str):
                # torch has no symbols for 0 and 1; only a demand of the model leads to such a size.
                self.constant[name] = int(size)
        return fake

    def _named(self, expr: sympy.Basic) -> sympy.Basic:
        """An expression of torch's symbols as one of dimension names."""
        names = {s: symbol(n) for s, n in self.symbols.items()}
        return self.env.simplify(expr).xreplace(names) if isinstance(expr, sympy.Basic) else expr

    def demand_of(self, error: GraphoptError) -> sympy.Basic | None:
        """What a converter said it needs, as an equation."""
        if not isinstance(error, SizeError) or not isinstance(error.size, torch.SymInt):
            return None
        names = {s: symbol(n) for s, n in self.symbols.items()}
        return sympy.Eq(error.size.node.expr.xreplace(names), sympy.Integer(error.wanted), evaluate=False)

    def last_difference(self) -> sympy.Basic | None:
        """The most recent pair of sizes that turned out different, as an equation."""
        names = {s: symbol(n) for s, n in self.symbols.items()}
        for guard in reversed(self.env.guards):
            if isinstance(guard.expr, sympy.Ne):
                left, right = (side.xreplace(names) for side in guard.expr.args)
                # "is not 1" is what broadcasting asks of every size.
                if not (right == 1 and isinstance(left, sympy.Symbol)):
                    return sympy.Eq(left, right, evaluate=False)
        return None

    def facts(self) -> Facts:
        facts = Facts(dict(self.sizes), fixed={n: (v, "") for n, v in self.constant.items()})
        for size, name in self.symbols.items():
            value = self.env.simplify(size)
            if value.is_number:
                facts.fixed.setdefault(name, (int(value), self._blame_of(size)))
        for guard, node in zip(self.env.guards, self.blame, strict=False):
            if isinstance(guard.expr, sympy.Eq):
                named = self._named(guard.expr)
                if named not in (sympy.true, sympy.false) and named.free_symbols:
                    facts.conditions.append((named, node))
        return facts

    def _blame_of(self, size: sympy.Symbol) -> str:
        for guard, node in zip(self.env.guards, self.blame, strict=False):
            if size in guard.expr.free_symbols and isinstance(guard.expr, sympy.Eq):
                return node
        return ""


def symbol(name: str) -> sympy.Symbol:
    """The sympy symbol that stands for a dimension in :class:`Facts`."""
    return sympy.Symbol(name, integer=True, positive=True)


def holds(condition: sympy.Basic, sizes: Mapping[str, int]) -> bool:
    """Whether a condition on dimensions is true for these sizes."""
    values = {symbol(n): sympy.Integer(v) for n, v in sizes.items()}
    result = sympy.Eq(*(side.xreplace(values) for side in condition.args))
    return result is sympy.true or result is True


def _first_sizes(
    shapes: Sequence[InputShape], dtypes: Sequence[torch.dtype], dimensions: Mapping[str, Dimension]
) -> dict[str, int]:
    """A size for each dimension, no two alike: large ones for the height and width of an image."""
    static = {s for spec in shapes for s in spec.shape if isinstance(s, int)}
    sizes: dict[str, int] = {}
    for name, dimension in dimensions.items():
        first = dimension.axes[0]
        rank = len(shapes[first.input].shape)
        image = dtypes[first.input].is_floating_point and rank >= 4 and first.axis >= 2
        preferred = _SPATIAL if image else _SMALL
        sizes[name] = next(
            s
            for s in chain(_allowed(dimension, preferred, exact=True), _allowed(dimension, range(2, 1 << 30)))
            if s not in sizes.values()
            and (s not in static or dimension.range.max is not None)
            # torch.export takes a single step of a multiple for a constant.
            and (s >= 2 * dimension.range.multiple_of or not _has_two_steps(dimension))
        )
    return sizes


def _has_two_steps(dimension: Dimension) -> bool:
    bounds = dimension.range
    return bounds.multiple_of > 1 and (bounds.max is None or bounds.max >= 2 * bounds.multiple_of)


def _allowed(dimension: Dimension, candidates: Iterable[int], exact: bool = False) -> Iterable[int]:
    """Candidates inside the dimension's range; counted in its multiples unless ``exact``."""
    bounds = dimension.range
    for candidate in candidates:
        size = (
            candidate
            if exact
            else _align(max(bounds.min, 2), bounds.multiple_of) + ((candidate - 2) * bounds.multiple_of)
        )
        if size in bounds:
            yield size
        elif bounds.max is not None and size > bounds.max and not exact:
            # Too few sizes for all to differ: sizes may then coincide.
            yield from (s for s in range(bounds.min, bounds.max + 1) if s in bounds)
            return


def _align(size: int, multiple: int) -> int:
    return math.ceil(size / multiple) * multiple


def _solve(
    demands: Sequence[sympy.Basic],
    sizes: Mapping[str, int],
    dimensions: Mapping[str, Dimension],
    newest: sympy.Basic,
) -> dict[str, int] | None:
    """Sizes that satisfy all demands and differ from ``sizes`` in few dimensions, or None."""
    names = [n for n in reversed(list(dimensions)) if symbol(n) in newest.free_symbols]
    for name in names:
        candidates = dict.fromkeys(
            [
                *_linear_solution(newest, name, sizes),
                *(s for s in (*_SPATIAL, 48, 32, 128, 192, 512, 640)),
                *range(2, _LARGEST_SIZE),
                1,
            ]
        )
        for candidate in candidates:
            if candidate not in dimensions[name].range:
                continue
            trial = {**sizes, name: candidate}
            if all(holds(d, trial) for d in demands):
                return trial
    return _repair(demands, sizes, dimensions)


def _linear_solution(demand: sympy.Basic, name: str, sizes: Mapping[str, int]) -> list[int]:
    others = {symbol(n): v for n, v in sizes.items() if n != name}
    difference = (demand.args[0] - demand.args[1]).xreplace({k: sympy.Integer(v) for k, v in others.items()})
    if not difference.is_polynomial(symbol(name)):
        return []
    return [int(s) for s in sympy.solve(difference, symbol(name)) if s.is_Integer and s > 0]


def _repair(
    demands: Sequence[sympy.Basic], sizes: Mapping[str, int], dimensions: Mapping[str, Dimension]
) -> dict[str, int] | None:
    """Satisfies the demands one after the other; for demands that share dimensions."""
    trial = dict(sizes)
    for _ in range(4):
        for demand in demands:
            if holds(demand, trial):
                continue
            for name in [n for n in reversed(list(dimensions)) if symbol(n) in demand.free_symbols]:
                solutions = [s for s in _linear_solution(demand, name, trial) if s in dimensions[name].range]
                if solutions:
                    trial[name] = solutions[0]
                    break
        if all(holds(d, trial) for d in demands):
            return trial
    return None
