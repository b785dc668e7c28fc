"""Loaded once by the server that :mod:`benchmarks.onnx_exports` forks its processes from."""

import onnxruntime  # noqa: F401
import onnxscript  # noqa: F401
import torch.onnx
import transformers  # noqa: F401

import graphopt.frontends.onnx
import graphopt.verification  # noqa: F401

torch.set_num_threads(1)
