"""ONNX's own backend tests, run through the importer; ``benchmarks/onnx_conformance.py`` is the command."""
