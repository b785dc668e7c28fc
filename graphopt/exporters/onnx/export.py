"""``to_onnx``: Program -> ONNX file.

torch.onnx translates the graph (ATen operator by ATen operator, with onnxscript's library) and
onnxscript's optimiser cleans it.  The graph is decomposed only where an operator has no translation:
decomposing all of it, as ``torch.onnx.export`` does, is two thirds of the time.

What is added: translations that torch.onnx lacks or has wrong
(:mod:`~graphopt.exporters.onnx.translations`), rewrites before it
(:mod:`~graphopt.exporters.onnx.legalize`), the program's own names and origins after it
(:mod:`~graphopt.exporters.onnx.finish`), and a file that appears complete or not at all
(:mod:`~graphopt.exporters.onnx.write`).
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from torch.onnx import OnnxExporterError

from graphopt._torch import OnnxTranslation
from graphopt.errors import GraphoptError, InputError
from graphopt.exporters.exported_program import to_exported_program
from graphopt.exporters.onnx.doubles import DECOMPOSED, has_doubles
from graphopt.exporters.onnx.finish import finish
from graphopt.exporters.onnx.legalize import legalize, origin_of, remember_origins
from graphopt.exporters.onnx.opsets import DEFAULT_OPSET, chosen_opset
from graphopt.exporters.onnx.translations import translation_table
from graphopt.exporters.onnx.write import write_model

__all__ = ["DEFAULT_OPSET", "export_verified", "to_onnx", "to_onnx_model"]

if TYPE_CHECKING:
    import onnx_ir
    from torch import fx

    from graphopt.ir.program import Program


def to_onnx(
    program: Program,
    path: str | os.PathLike[str],
    *,
    opset: int | None = None,
    external_data: Literal["auto"] | bool | int = "auto",
) -> None:
    """Write ``program`` as an ONNX model that onnxruntime loads.

    Inputs, outputs and symbolic dimensions keep their names.  Each node's ``metadata_props`` hold
    ``graphopt.layers``, the user's layers that it comes from, and ``graphopt.made_by``, the rewrites.

    Args:
        program: at any level; dialect operators are written as standard ONNX.
        path: the file to write; replaced when it exists.
        opset: of the standard operator set.  None: :data:`DEFAULT_OPSET`, or the first that has all
            operators of the program.
        external_data: where weights go.  ``"auto"``: into the file, or next to it in
            ``<file name>.data`` when it would come near protobuf's limit of 2 GB.  True or False: as
            said.  A number: next to it when they have more bytes than that.

    Raises:
        InputError: an operator has no ONNX form (GO-3005, all of them listed) or is used in a way that
            has none (GO-3006), or the file cannot be written (GO-3001).
    """
    write_model(to_onnx_model(program, opset=opset), Path(path), external_data)


def export_verified(
    program: Program,
    path: str | os.PathLike[str],
    verify: Callable[[Path], None],
    *,
    opset: int | None = None,
    external_data: Literal["auto"] | bool | int = "auto",
) -> None:
    """As :func:`to_onnx`, but ``path`` is written only if ``verify`` accepts the result.

    Args:
        verify: called with a path that holds the complete model; it raises to reject it.
    """
    write_model(to_onnx_model(program, opset=opset), Path(path), external_data, verify)


def to_onnx_model(program: Program, *, opset: int | None = None) -> onnx_ir.Model:
    """The ONNX model of ``program`` in memory; its weights are the program's, not copies.

    Raises:
        InputError: as :func:`to_onnx`.
    """
    exported = to_exported_program(program)
    opset = chosen_opset(exported, opset)
    remember_origins(exported)
    with _quiet():
        try:
            translation = _translation(opset, has_doubles(exported))
            translation.drop_assertions(exported)
            if translation.untranslatable(exported):
                exported = translation.decompose(exported)
            _refuse_unknown(translation.untranslatable(exported))
            legalize(exported)
            model = translation.translate(exported)
        except OnnxExporterError as error:
            raise _explained(error) from error
        return finish(model, program, opset)


@functools.cache
def _translation(opset: int, doubles: bool) -> OnnxTranslation:
    return OnnxTranslation(opset, translation_table(opset), DECOMPOSED if doubles else ())


def _refuse_unknown(nodes: Sequence[fx.Node]) -> None:
    """Raises when there are calls without a translation, with all of them in the message."""
    if not nodes:
        return
    calls: dict[str, Counter[str]] = {}
    for node in nodes:
        layers, _, target = origin_of(node)
        calls.setdefault(target, Counter())[", ".join(layers) or node.name] += 1
    lines = [
        f"  {target} ({places.total()}x, first: {next(iter(places))})"
        for target, places in sorted(calls.items())
    ]
    raise InputError("operators without an ONNX form:\n" + "\n".join(lines), code="GO-3005")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Holds back what torch.onnx logs and warns about itself (missing torchvision, its TreeSpec)."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _explained(error: BaseException) -> GraphoptError:
    """The user's error behind torch.onnx's chain of exceptions."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    for cause in chain:
        if isinstance(cause, GraphoptError):
            return cause
    where = re.search(r"translating node %(\w+)", str(error))
    reason = next((line for line in str(chain[-1]).splitlines() if line.strip()), type(chain[-1]).__name__)
    return InputError(
        f"an operator is used in a way that has no ONNX form: {reason}",
        code="GO-3006",
        node=where[1] if where else None,
    )
