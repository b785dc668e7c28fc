"""What an ONNX file says beside its graph: of the model, and of where its nodes come from."""

from __future__ import annotations

import onnx_ir as ir

PRODUCER = "graphopt.source_producer"
DESCRIPTION = "graphopt.doc_string"
LAYERS, MADE_BY = "graphopt.layers", "graphopt.made_by"
_OWN = "graphopt"


def model_metadata(model: ir.Model) -> dict[str, str]:
    """The file's ``metadata_props``, its description, and who wrote it first, for ``Program.metadata``."""
    found = {str(k): str(v) for k, v in model.metadata_props.items()}
    if model.doc_string:
        found[DESCRIPTION] = model.doc_string
    if model.producer_name and model.producer_name != _OWN:
        found[PRODUCER] = f"{model.producer_name} {model.producer_version or ''}".strip()
    return found


def write_metadata(model: ir.Model, metadata: dict[str, str]) -> None:
    """The inverse of :func:`model_metadata`, but for the producer, which graphopt now is."""
    model.doc_string = metadata.get(DESCRIPTION, model.doc_string)
    model.metadata_props.update({k: v for k, v in metadata.items() if k != DESCRIPTION})


def annotation(node: ir.Node, name: str) -> dict[str, str]:
    """What the nodes that a node becomes carry: its name, or the layers that graphopt wrote into the file."""
    marks = {"onnx_node": name, "onnx_op": node.op_type}
    layers = node.metadata_props.get(LAYERS)
    if layers:
        marks |= {"onnx_layers": layers, "onnx_made_by": node.metadata_props.get(MADE_BY, "")}
    return marks
