"""Bugs of others that graphopt works around: TVM, torch.export, torch.onnx, onnxruntime, onnx.

A folder an issue, named by the issue, with ``issue.toml`` and ``repro.py``: a stand-alone script without
graphopt that ends with status 1 and a line ``still there: ...`` while the bug is there, with 0 when it is
gone.  ``python -m benchmarks.known_issues`` runs them all, and fails where one is gone: then its workaround
can go too.
"""

from graphopt.fuzz.known.issues import KnownIssue, explanation, known_issues

__all__ = ["KnownIssue", "explanation", "known_issues"]
