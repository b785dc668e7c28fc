"""How long it takes to match every registered rule, on graphs of 1,000 to 10,000 nodes.

``python -m benchmarks.matching`` builds graphs of repeated blocks (decomposed normalisation, gates and
attention, residuals, branches: places where rules fit, and many more where they begin to), and times

* *rewrite*: all rules to their fixed point;
* *match*: once more on the result, where every rule is tried at every node it may end in and none fits.

Both should grow linearly with the nodes: the last lines give the fit and the exponent of the power law.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import fx

    from graphopt.ir.program import Program
    from graphopt.rewriting.rule import RewriteRule

SIZES = (1000, 2000, 5000, 10000)
WIDTH = 8


@dataclass
class Measurement:
    """Times of one graph, in CPU seconds of this process; the best of the repeats."""

    nodes: int
    rules: int
    rewrites: int
    rewrite: float
    tried: int
    match: float


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.matching", description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), metavar="NODES")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    rules = registered_rules()
    rows = []
    print(f"{'nodes':>7} {'rules':>6} {'rewrites':>9} {'rewrite s':>10} {'tries':>8} {'match s':>8}")
    for size in options.sizes:
        row = measure(size, rules, options.repeats)
        rows.append(row)
        first = f"{row.nodes:>7} {row.rules:>6} {row.rewrites:>9} {row.rewrite:>10.3f}"
        print(f"{first} {row.tried:>8} {row.match:>8.3f}", flush=True)
    result: dict[str, Any] = {"measurements": [asdict(r) for r in rows]}
    if len(rows) > 1:
        for what in ("rewrite", "match"):
            result[what] = fit([r.nodes for r in rows], [getattr(r, what) for r in rows])
            print(
                "{0}: {per_node_us:.1f} us a node, R2 {r2:.4f}, exponent {exponent:.2f}".format(
                    what, **result[what]
                )
            )
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def registered_rules() -> list[RewriteRule]:
    """The rules of every registered pass that can be built without options, each once."""
    from graphopt.passmanager.base import RulePass, flatten
    from graphopt.passmanager.registry import get_pass, pass_names

    found: dict[str, RewriteRule] = {}
    for name in pass_names():
        for part in flatten([get_pass(name)()]):
            if isinstance(part, RulePass):
                found.update({f"{type(r).__module__}.{r.name}": r for r in part.rules()})
    return list(found.values())


def measure(size: int, rules: Sequence[RewriteRule], repeats: int = 1) -> Measurement:
    """Times all rules on a graph of about ``size`` nodes."""
    from graphopt.ir.rewriter import Rewriter
    from graphopt.rewriting.driver import apply_rules

    original = synthetic_program(size)
    best_rewrite = best_match = float("inf")
    rewrites = tried = 0
    for _ in range(repeats):
        rewriter = Rewriter(original, "benchmark")
        start = time.process_time()
        rewrites = sum(s.matched for s in apply_rules(rewriter, rules))
        best_rewrite = min(best_rewrite, time.process_time() - start)
        again = Rewriter(rewriter.finish(), "benchmark")
        start = time.process_time()
        statistics = apply_rules(again, rules)
        best_match = min(best_match, time.process_time() - start)
        tried = sum(s.tried for s in statistics)
        if any(s.matched for s in statistics):
            raise AssertionError("the rules had not reached their fixed point")
    return Measurement(len(original.graph.nodes), len(rules), rewrites, best_rewrite, tried, best_match)


def synthetic_program(size: int) -> Program:
    """About ``size`` nodes of repeated blocks over ``[2, 4, 8]`` float32; the same for the same size."""
    import torch
    from torch import fx

    from graphopt.ir.program import Program

    torch.manual_seed(0)
    root = torch.nn.Module()
    graph = fx.Graph()
    x: fx.Node = graph.placeholder("x")
    block = 0
    while len(graph.nodes) < size - 1:
        root.register_parameter(f"weight_{block}", torch.nn.Parameter(torch.randn(WIDTH, WIDTH)))
        root.register_parameter(f"scale_{block}", torch.nn.Parameter(torch.rand(WIDTH) + 0.5))
        x = _BLOCKS[block % len(_BLOCKS)](graph, x, block)
        block += 1
    graph.output((x,))
    return Program.from_graph_module(fx.GraphModule(root, graph), (torch.randn(2, 4, WIDTH),))


def _norm_and_gate(graph: fx.Graph, x: fx.Node, block: int) -> fx.Node:
    """RMSNorm written out, a linear layer, SiLU written out, and a residual."""
    aten, call = _aten(), graph.call_function
    weight, scale = graph.get_attr(f"weight_{block}"), graph.get_attr(f"scale_{block}")
    square = call(aten.pow.Tensor_Scalar, (x, 2))
    mean = call(aten.mean.dim, (square, [-1], True))
    root = call(aten.rsqrt.default, (call(aten.add.Tensor, (mean, 1e-6)),))
    normed = call(aten.mul.Tensor, (scale, call(aten.mul.Tensor, (x, root))))
    hidden = call(aten.linear.default, (normed, weight))
    gated = call(aten.mul.Tensor, (hidden, call(aten.sigmoid.default, (hidden,))))
    return call(aten.add.Tensor, (x, gated))


def _hard_swish(graph: fx.Graph, x: fx.Node, block: int) -> fx.Node:
    """x * clamp(x + 3, 0, 6) / 6, an identity view and a same-type cast on the way."""
    import torch

    aten, call = _aten(), graph.call_function
    weight = graph.get_attr(f"weight_{block}")
    clipped = call(aten.clamp.default, (call(aten.add.Tensor, (x, 3.0)), 0.0, 6.0))
    swish = call(aten.div.Tensor, (call(aten.mul.Tensor, (x, clipped)), 6.0))
    same = call(aten.view.default, (swish, [2, 4, WIDTH]))
    cast = call(aten.to.dtype, (same, torch.float32))
    return call(aten.add.Tensor, (x, call(aten.linear.default, (cast, weight))))


def _attention(graph: fx.Graph, x: fx.Node, block: int) -> fx.Node:
    """Attention written out, with transposes that do not cancel."""
    import torch

    aten, call = _aten(), graph.call_function
    weight = graph.get_attr(f"weight_{block}")
    query, key, value = (call(aten.linear.default, (x, weight)) for _ in range(3))
    scores = call(aten.matmul.default, (query, call(aten.transpose.int, (key, 1, 2))))
    scaled = call(aten.mul.Tensor, (scores, 0.35))
    weights = call(aten.softmax.int, (scaled, -1, torch.float32))
    mixed = call(aten.matmul.default, (weights, value))
    turned = call(aten.transpose.int, (call(aten.transpose.int, (mixed, 1, 2)), 1, 2))
    return call(aten.tanh.default, (call(aten.sub.Tensor, (x, turned)),))


_BLOCKS = (_norm_and_gate, _hard_swish, _attention)


def _aten() -> Any:
    import torch

    return torch.ops.aten


def fit(nodes: Sequence[int], seconds: Sequence[float]) -> dict[str, float]:
    """Least squares of ``seconds = a + b * nodes``, and of the power law ``seconds ~ nodes ** exponent``."""
    import numpy as np

    n, t = np.asarray(nodes, dtype=float), np.asarray(seconds, dtype=float)
    slope, intercept = np.polyfit(n, t, 1)
    residual = t - (intercept + slope * n)
    spread = float(((t - t.mean()) ** 2).sum())
    return {
        "per_node_us": float(slope) * 1e6,
        "intercept_s": float(intercept),
        "r2": 1.0 - float((residual**2).sum()) / spread if spread else 1.0,
        "exponent": float(np.polyfit(np.log(n), np.log(t), 1)[0]),
    }


if __name__ == "__main__":
    sys.exit(main())
