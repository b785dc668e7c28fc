"""One model of each shape of network through the whole path: capture, cleanup, code, equal results.

The others go the same way in ``python -m benchmarks.model_table``.
"""

import pytest

import graphopt
from benchmarks.zoo import get
from graphopt import PassManager
from graphopt import passes as P
from graphopt.verification import verify

CHOSEN = ("resnet50", "vit-s", "qwen2-decode", "minilm-onnx")


@pytest.mark.parametrize("name", CHOSEN)
def test_compiled_model_computes_what_its_source_does(name: str) -> None:
    model = get(name, size="small")
    program = model.capture(dynamic=False)
    cleaned = PassManager([P.Cleanup()], verify="off").run(program).program
    assert len(cleaned.operator_nodes()) < len(program.operator_nodes())
    verify(program, cleaned, inputs=[model.inputs], runs=4).raise_if_failed()
    artifact = graphopt.compile(cleaned, target="cpu")
    assert artifact.kernels()
    verify(program, artifact, inputs=[model.inputs], runs=4).raise_if_failed()
