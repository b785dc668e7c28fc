"""Recurrent layers: one kernel for all steps of a sequence.

What the inputs contribute to the gates is a product of its own, over the whole sequence at once.  The
kernel here has the rest: each step multiplies the state with weights that are packed so that one tile has
all gates of a few units, which become the next state before they leave the registers.  (Appleyard, Kocisky
and Blunsom, "Optimizing Performance of Recurrent Neural Networks on GPUs", 2016, section 3.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.codegen.relax import scalars as s
from graphopt.codegen.relax.context import Context, Expr, rank_of, shape_of
from graphopt.codegen.relax.packed import packed_matmul
from graphopt.codegen.relax.symbols import int64, known
from graphopt.codegen.schedules.cpu.tiling import Registers

_CACHED = 1 << 19  # bytes of weights that stay in one core's cache from step to step
_STEP_WORTH_SHARING = 1 << 17  # multiply-adds of a step beside which a parallel region costs little
_SEQUENCE_WORTH_SHARING = 1 << 18  # of a whole sequence, if its number of steps is known
_ROWS = 4  # of a tile where the batch is symbolic
_CHAINS = 8  # sums at once that hide the latency of multiply-adds

Vector = Callable[[Any], Any]
"""An expression for each lane."""


class Unit:
    """A register's worth of units of one sequence, in one step.

    Attributes:
        inputs: for each gate, what the input contributes.
        products: for each gate, the product of the state with the recurrent weights, and what stays with it.
        states: before the step.
    """

    def __init__(
        self, inputs: Sequence[Vector], products: Sequence[Vector], states: Sequence[Vector], lanes: int
    ) -> None:
        self.inputs, self.products, self.states = inputs, products, states
        self._lanes = lanes

    def gate(self, index: int, activation: Callable[[Any], Any]) -> Vector:
        """The activation of both parts."""
        return self.named(lambda lane: activation(self.inputs[index](lane) + self.products[index](lane)))

    def named(self, value: Vector) -> Vector:
        """``value``, computed once: expressions are trees, written out at each of their uses."""
        register = T.sblock_alloc_buffer((self._lanes,), "float32", scope="local")
        with T.vectorized(0, self._lanes) as lane:
            T.buffer_store(register, value(lane), [lane])
        return lambda lane: register[lane]


@dataclass(frozen=True)
class Cell:
    """The equations of one step.

    Attributes:
        gates: products of the state and of the input that a unit needs.
        states: tensors that a step hands to the next; the first is the output.
        own_offset: whether the recurrent bias must stay with the recurrent product.
        update: the next states of a unit.
    """

    gates: int
    states: int
    own_offset: bool
    update: Callable[[Unit], list[Vector]]


@dataclass(frozen=True)
class Direction:
    """Weights of one direction of a layer, gates one below the other, units within a gate.

    Attributes:
        inputs: ``[gates H, I]``.
        recurrent: ``[gates H, H]``.
        input_bias, recurrent_bias: ``[gates H]`` or None.
    """

    inputs: torch.Tensor
    recurrent: torch.Tensor
    input_bias: torch.Tensor | None
    recurrent_bias: torch.Tensor | None


@dataclass(frozen=True)
class _Tile:
    """All gates of ``units`` units, of ``rows`` sequences of the batch."""

    rows: int
    units: int

    @staticmethod
    def of(batch: int | None, hidden: int, gates: int, registers: Registers) -> _Tile:
        most = max(1, registers.accumulators // gates)
        rows = _ROWS if batch is None else -(-batch // -(-batch // most))
        rows = min(rows, most)
        vectors = 1
        while (
            rows * gates * vectors < _CHAINS
            and 2 * rows * gates * vectors <= registers.accumulators
            and hidden > vectors * registers.lanes
        ):
            vectors *= 2
        return _Tile(rows, vectors * registers.lanes)


def recurrence(
    context: Context,
    cell: Cell,
    x: Expr,
    initial: Sequence[Expr],
    first: int,
    directions: Sequence[Direction],
    *,
    batch_first: bool,
) -> list[Expr]:
    """One layer, float32, for CPUs.

    Args:
        x: ``[S, B, I]``, or ``[B, S, I]`` with ``batch_first``.
        initial: of each state ``[*, B, H]``, where those of this layer begin at ``first``.
        directions: one, or two of which the second goes from the last step to the first.

    Returns:
        the outputs ``[S, B, directions H]`` (or ``[B, S, ...]``), and each state after its last step,
        ``[directions, B, H]``.
    """
    assert context.registers is not None and rank_of(x) == 3
    batch, steps = shape_of(x)[:2] if batch_first else reversed(shape_of(x)[:2])
    hidden = directions[0].recurrent.shape[1]
    tile = _Tile.of(known(batch), hidden, cell.gates, context.registers)
    projected = _projected(context, cell, x, directions, tile.units)
    weights = torch.stack([_packed(d.recurrent, cell.gates, tile.units) for d in directions])
    operands = [projected, context.constant(weights), *initial]
    offsets = [d.recurrent_bias for d in directions]
    if cell.own_offset and offsets[0] is not None:
        packed = [_packed(o[:, None], cell.gates, tile.units) for o in offsets if o is not None]
        operands.append(context.constant(torch.stack(packed)))
    kernel = _Kernel(
        cell, tile, context.registers.lanes, batch, steps, hidden, len(directions), first, batch_first
    )
    output = [*shape_of(x)[:2], int64(len(directions) * hidden)]
    state = [int64(len(directions)), batch, int64(hidden)]
    results = [(output, "float32"), *([(state, "float32")] * cell.states)]
    return context.loops("recurrence", operands, results, kernel.define, rule="recurrence")


def _packed(matrix: torch.Tensor, gates: int, units: int) -> torch.Tensor:
    """``[gates H, K]`` to ``[⌈H / units⌉, K, gates, units]``, filled up with zeros."""
    hidden = matrix.shape[0] // gates
    panels = -(-hidden // units)
    whole = torch.nn.functional.pad(
        matrix.detach().reshape(gates, hidden, -1), (0, 0, 0, panels * units - hidden)
    )
    return whole.reshape(gates, panels, units, -1).permute(1, 3, 0, 2).contiguous()


def _projected(context: Context, cell: Cell, x: Expr, directions: Sequence[Direction], units: int) -> Expr:
    """The inputs' part of the gates: ``[*, *, directions, panels, gates, units]``, with all biases
    that need not stay with the recurrent product."""

    def rows(matrix: torch.Tensor) -> torch.Tensor:
        panels = _packed(matrix, cell.gates, units)
        return panels.transpose(0, 1).reshape(panels.shape[1], -1)

    weights = torch.cat([rows(d.inputs).T for d in directions])
    biases = []
    for d in directions:
        if d.input_bias is not None and d.recurrent_bias is not None:
            bias = d.input_bias if cell.own_offset else d.input_bias + d.recurrent_bias
            biases.append(rows(bias.detach()[:, None])[0])
    first, second, depth = shape_of(x)
    flat = context.reshape(x, [first * second, depth])
    product = packed_matmul(context, flat, weights, torch.cat(biases) if biases else None)
    panels = -(-directions[0].recurrent.shape[1] // units)
    return context.reshape(product, [first, second, len(directions), panels, cell.gates, units])


@dataclass(frozen=True)
class _Kernel:
    """Writes the loops of :func:`recurrence`."""

    cell: Cell
    tile: _Tile
    lanes: int
    batch: Any
    steps: Any
    hidden: int
    directions: int
    first: int
    batch_first: bool

    @property
    def panels(self) -> int:
        return -(-self.hidden // self.tile.units)

    def define(self, projected: Any, weights: Any, *rest: Any) -> None:
        count = self.cell.states
        initial, rest = rest[:count], rest[count:]
        offset = rest[0] if len(rest) == count + 2 else None
        output, *finals = rest[-count - 1 :]
        width = self.panels * self.tile.units
        # The output of a step is read by all of the next one, which must not overwrite it.
        outputs = T.sblock_alloc_buffer((2, self.directions, self.batch, width), "float32", scope="global")
        others = [
            T.sblock_alloc_buffer((1, self.directions, self.batch, width), "float32", scope="global")
            for _ in range(count - 1)
        ]
        states = [outputs, *others]
        buffers = (projected, weights, offset, states, output)
        with T.serial(0, self.directions) as d, T.serial(0, self.batch) as b, T.serial(0, self.hidden) as j:
            for state, given in zip(states, initial, strict=True):
                T.buffer_store(state, given[d + self.first, b, j], [0, d, b, j])
        if self._shares_steps():
            with T.serial(0, self.steps) as t, T.parallel(0, self.directions * self.panels) as at:
                direction, panel = tirx.floordiv(at, self.panels), tirx.floormod(at, self.panels)
                for start, rows, tiles in self._tiles():
                    with T.serial(0, tiles) as tile:
                        self._step(buffers, t, direction, panel, start + tile * rows, rows)
        else:
            for start, rows, tiles in self._tiles():
                loop = T.parallel if self._shares_sequences() else T.serial
                with loop(0, self.directions * tiles) as at, T.serial(0, self.steps) as t:
                    with T.serial(0, self.panels) as panel:
                        direction, tile = tirx.floordiv(at, tiles), tirx.floormod(at, tiles)
                        self._step(buffers, t, direction, panel, start + tile * rows, rows)
        with T.serial(0, self.directions) as d, T.serial(0, self.batch) as b, T.serial(0, self.hidden) as j:
            for state, final in zip(states, finals, strict=True):
                last = tirx.floormod(self.steps, 2) if state is outputs else 0
                T.buffer_store(final, state[last, d, b, j], [d, b, j])

    def _tiles(self) -> list[tuple[Any, int, Any]]:
        """First row, rows a tile and number of tiles; what is left of the batch has a tile of its own."""
        rows, batch = self.tile.rows, known(self.batch)
        whole = tirx.floordiv(self.batch, int64(rows))
        if batch is None:
            return [(0, rows, whole), (whole * rows, 1, self.batch - whole * rows)]
        rest = batch % rows
        return [(0, rows, whole), *([(batch - rest, rest, int64(1))] if rest else [])]

    def _shares_steps(self) -> bool:
        """Whether the units of a step are shared among cores."""
        panel = self.cell.gates * self.hidden * self.tile.units
        weights = self.panels * panel
        if self.directions * self.panels == 1:
            return False
        work = self.directions * weights * (known(self.batch) or 1)
        return 4 * weights > _CACHED and work >= _STEP_WORTH_SHARING

    def _shares_sequences(self) -> bool:
        """Whether directions and parts of the batch, which need nothing of each other, are."""
        work = self.directions * self.cell.gates * self.hidden**2
        work *= (known(self.batch) or 1) * (known(self.steps) or 32)
        return work >= _SEQUENCE_WORTH_SHARING

    def _step(self, buffers: Any, t: Any, direction: Any, panel: Any, row: Any, rows: int) -> None:
        """Step ``t`` of ``rows`` sequences and the units of one panel."""
        projected, weights, offset, states, output = buffers
        gates, units, lanes = self.cell.gates, self.tile.units, self.lanes
        vectors = units // lanes
        before, after = tirx.floormod(t, 2), tirx.floormod(t + 1, 2)
        time = t if self.directions == 1 else t + direction * (self.steps - 1 - 2 * t)
        with T.sblock("step"):
            total = T.sblock_alloc_buffer((rows, gates, units), "float32", scope="local")
            with T.unroll(0, rows) as r, T.unroll(0, gates) as g, T.unroll(0, vectors) as v:
                with T.vectorized(0, lanes) as lane:
                    u = v * lanes + lane
                    start = s.constant(0, "float32") if offset is None else offset[direction, panel, 0, g, u]
                    T.buffer_store(total, start, [r, g, u])
            with T.serial(0, self.hidden) as k:
                with T.unroll(0, rows) as r, T.unroll(0, gates) as g, T.unroll(0, vectors) as v:
                    with T.vectorized(0, lanes) as lane:
                        u = v * lanes + lane
                        old = states[0][before, direction, row + r, k]
                        product = old * weights[direction, panel, k, g, u]
                        T.buffer_store(total, total[r, g, u] + product, [r, g, u])
            with T.unroll(0, rows) as r, T.unroll(0, vectors) as v:
                place = [row + r, time] if self.batch_first else [time, row + r]
                unit = panel * units + v * lanes
                at = [direction, row + r]

                def of_input(g: int, place: Any = place, v: Any = v) -> Vector:
                    return lambda lane: projected[*place, direction, panel, g, v * lanes + lane]

                def of_product(g: int, r: Any = r, v: Any = v) -> Vector:
                    return lambda lane: total[r, g, v * lanes + lane]

                def of_state(index: int, at: Any = at, unit: Any = unit) -> Vector:
                    return lambda lane: states[index][0 if index else before, *at, unit + lane]

                inputs, products = map(of_input, range(gates)), map(of_product, range(gates))
                old_states = [of_state(index) for index in range(len(states))]
                values = self.cell.update(Unit(list(inputs), list(products), old_states, lanes))
                with T.vectorized(0, lanes) as lane:
                    T.buffer_store(states[0], values[0](lane), [after, *at, unit + lane])
                for state, value in zip(states[1:], values[1:], strict=True):
                    with T.vectorized(0, lanes) as lane:
                        T.buffer_store(state, value(lane), [0, *at, unit + lane])
                if self.hidden % units == 0:
                    with T.vectorized(0, lanes) as lane:
                        column = direction * self.hidden + unit + lane
                        T.buffer_store(output, values[0](lane), [*place, column])
                else:
                    with T.serial(0, tirx.max(tirx.min(self.hidden - unit, lanes), 0)) as lane:
                        column = direction * self.hidden + unit + lane
                        T.buffer_store(output, values[0](lane), [*place, column])
