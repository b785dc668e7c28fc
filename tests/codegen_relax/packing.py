"""Many operator calls as one program, so that one compilation checks them all."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import tvm
from samples import Maker, Sample
from torch import fx
from tvm import relax

from graphopt._torch import DimDynamic, FakeTensorMode, ShapeEnv, StatelessSymbolicContext
from graphopt.codegen.relax import lower
from graphopt.ir.dimensions import build_signature
from graphopt.ir.program import Program
from graphopt.ir.propagation import propagate

SIZE = 13
"""The size of symbolic axes while the program is built; no other axis of a sample has it."""


@dataclass(frozen=True)
class Call:
    """One call of one operator."""

    target: torch._ops.OpOverload
    sample: Sample
    seed: int

    def operands(self, dtype: torch.dtype, n: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword operands; samples give them all in schema order."""
        values = self.sample(Maker(dtype, n, self.seed))
        schema = self.target._schema.arguments[: len(values)]
        named = {a.name: v for a, v in zip(schema, values, strict=True) if a.kwarg_only}
        return values[: len(values) - len(named)], named

    def run(self, dtype: torch.dtype, n: int) -> list[torch.Tensor]:
        """What eager torch gives."""
        args, kwargs = self.operands(dtype, n)
        result = self.target(*args, **kwargs)
        return [result] if isinstance(result, torch.Tensor) else list(result)


def tensors_of(operands: Any) -> list[torch.Tensor]:
    return [x for x in torch.utils._pytree.tree_leaves(operands) if isinstance(x, torch.Tensor)]


def runs_in_torch(call: Call, dtype: torch.dtype, n: int = SIZE) -> bool:
    """Whether eager torch has the operator for this dtype at all; what it lacks no program holds."""
    try:
        call.run(dtype, n)
    except (RuntimeError, NotImplementedError, IndexError, TypeError):
        return False
    return True


def pack(calls: Sequence[Call], dtype: torch.dtype, *, symbolic: bool) -> Program:
    """A program whose outputs are the results of ``calls``, in order, flattened."""
    graph = fx.Graph()
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    placeholders, pending = [], []
    for call in calls:
        operands = call.operands(dtype, SIZE)
        names = {}
        for tensor in tensors_of(operands):
            node = graph.placeholder(f"x{len(placeholders)}")
            axes = [
                DimDynamic.DUCK if symbolic and size == SIZE else DimDynamic.STATIC for size in tensor.shape
            ]
            context = StatelessSymbolicContext(dynamic_sizes=axes)
            node.meta["val"] = mode.from_tensor(tensor, symbolic_context=context)
            placeholders.append(node)
            names[id(tensor)] = node
        pending.append((call, operands, names))
    symbolic_size = next(
        (s for p in placeholders for s in p.meta["val"].shape if not isinstance(s, int)), None
    )
    size_node = None
    if symbolic_size is not None:
        holder, axis = next(
            (p, k) for p in placeholders for k, s in enumerate(p.meta["val"].shape) if not isinstance(s, int)
        )
        size_node = graph.call_function(torch.ops.aten.sym_size.int, (holder, axis))
        size_node.meta["val"] = symbolic_size
    outputs = []
    for call, operands, names in pending:

        def node_of(x: Any, names: dict[int, fx.Node] = names) -> Any:
            if isinstance(x, torch.Tensor):
                return names[id(x)]
            return size_node if size_node is not None and x == SIZE and type(x) is int else x

        args, kwargs = torch.utils._pytree.tree_map(node_of, operands)
        call_node = graph.call_function(call.target, args, kwargs)
        result = call.target(*operands[0], **operands[1])
        if isinstance(result, torch.Tensor):
            outputs.append(call_node)
        else:
            outputs += [graph.call_function(operator.getitem, (call_node, k)) for k in range(len(result))]
    graph.output(tuple(outputs))
    module = fx.GraphModule(torch.nn.Module(), graph)
    propagate(module, only_missing=True)
    symbols = {str(symbolic_size.node.expr): "n"} if symbolic_size is not None else {}
    signature = build_signature(
        placeholders, outputs, [p.name for p in placeholders], [f"y{k}" for k in range(len(outputs))],
        symbols, {}, {}, {},
    )  # fmt: skip
    return Program(module, signature, symbols=symbols)


class Compiled:
    """A lowered program in TVM's virtual machine, without any schedule."""

    def __init__(self, program: Program) -> None:
        target = tvm.target.Target({"kind": "llvm", "opt-level": 0, "num-cores": 1})
        module = lower(program).mod
        with target:
            module = relax.transform.LegalizeOps()(module)
            module = relax.transform.FoldConstant()(module)
        self._machine = relax.VirtualMachine(tvm.compile(module, target=target), tvm.cpu())

    def __call__(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        arguments = [tvm.runtime.from_dlpack(x.contiguous()) for x in inputs]
        return tuple(torch.from_dlpack(y).clone() for y in self._machine["main"](*arguments))
