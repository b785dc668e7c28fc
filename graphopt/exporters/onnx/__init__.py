"""Programs as ONNX files that plain onnxruntime loads."""

from graphopt.exporters.onnx.export import DEFAULT_OPSET, export_verified, to_onnx, to_onnx_model

__all__ = ["DEFAULT_OPSET", "export_verified", "to_onnx", "to_onnx_model"]
