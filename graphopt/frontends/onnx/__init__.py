"""Import of ONNX models.

``import_onnx(path)`` returns a :class:`graphopt.ir.program.Program`.  How it works: ``loading`` reads and
checks the file; ``support`` lists operators that are not supported; ``interpreter`` is a module that
evaluates the graph through the converters of ``registry`` and ``converters``; ``unread`` refuses
attributes that no converter read; ``boundary`` makes tensors of inputs and outputs that are sequences,
optionals or of 4 bits; ``probe`` and ``narrowing`` find out what the model demands of its dynamic sizes;
``importer`` runs torch.export.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphopt.frontends.onnx.importer import import_onnx

__all__ = ["import_onnx"]


def __getattr__(name: str) -> Any:
    if name == "import_onnx":
        from graphopt.frontends.onnx.importer import import_onnx

        return import_onnx
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
