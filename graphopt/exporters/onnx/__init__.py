"""Programs as ONNX files that plain onnxruntime loads."""

from graphopt.exporters.onnx.export import DEFAULT_OPSET, to_onnx

__all__ = ["DEFAULT_OPSET", "to_onnx"]
