"""The table of dialect ops in the documentation, written from the registry.

``python -m graphopt.dialect.table docs/dialect.md`` rewrites the table in that file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from graphopt.dialect.op import Absent, DialectOp
from graphopt.dialect.registry import absent_forms, all_ops

BEGIN, END = "<!-- dialect table: begin -->", "<!-- dialect table: end -->"

_HEADER = """\
| op | computes | gradient | ONNX | Relax | from |
|---|---|---|---|---|---|"""


def markdown_table() -> str:
    """One row an op, its signature below the table, and the reasons for forms that are absent."""
    rows = [_HEADER, *(_row(op) for op in all_ops())]
    signatures = [f"- `{op.qualified_name}{op.schema}`" for op in all_ops()]
    reasons = [
        f"- `{name}` has no {form} form: {reason}"
        for name, forms in absent_forms().items()
        for form, reason in forms.items()
    ]
    return "\n".join([*rows, "", *signatures, *([""] if reasons else []), *reasons])


def _row(op: DialectOp) -> str:
    gradient = "–" if isinstance(op.autograd, Absent) else "yes"
    onnx = "–" if isinstance(op.onnx, Absent) else f"opset {op.onnx.opset}, {_dtypes(op.onnx.dtypes)}"
    relax = "–" if isinstance(op.relax, Absent) else _dtypes(op.relax.dtypes)
    return f"| `{op.name}` | {op.summary} | {gradient} | {onnx} | {relax} | {op.source} |"


def _dtypes(dtypes: tuple[torch.dtype, ...]) -> str:
    short = {torch.float32: "f32", torch.float64: "f64", torch.float16: "f16", torch.bfloat16: "bf16"}
    return " ".join(short.get(d, str(d).removeprefix("torch.")) for d in dtypes)


def with_table(document: str) -> str:
    """The document with the table between its two markers replaced.

    Raises:
        ValueError: the document does not have the markers, in order.
    """
    head, begin, rest = document.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the document lacks {BEGIN} … {END}")
    return f"{head}{BEGIN}\n{markdown_table()}\n{END}{tail}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_table(path.read_text(encoding="utf-8")), encoding="utf-8")
