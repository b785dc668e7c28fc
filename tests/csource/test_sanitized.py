"""Generated C under sanitizers, a handful of it; ``make sanitize`` checks more."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest
import torch

from benchmarks.c_programs import SANITIZED, CProgram
from benchmarks.c_sanitizer import check, kernels, program_of
from graphopt.codegen import toolchain
from graphopt.codegen.csource.artifact import SourceArtifact
from graphopt.ir.program import Program
from graphopt.verification import verify


def _why_not() -> str | None:
    compiler = toolchain.find_c_compiler()
    if compiler is None:
        return "no C compiler is installed"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "empty.c")
        source.write_text("int main(void) { return 0; }\n")
        command = [compiler, "-fsanitize=address,undefined", str(source), "-o", f"{folder}/empty"]
        if subprocess.run(command, capture_output=True).returncode:
            return "the C compiler has no AddressSanitizer"
    return None


_REASON = _why_not()
pytestmark = pytest.mark.skipif(_REASON is not None, reason=str(_REASON))


# A depthwise convolution whose result is used twice wrote whole tiles beyond the end of its row.
@pytest.mark.parametrize("name", ["convolution-hard-swish", "convolution-transposed", "product", "softmax"])
def test_a_kernel_of_odd_sizes(name: str, tmp_path: Path) -> None:
    assert check(program_of(kernels(13)[name]), tmp_path / "model") is None


def test_every_size_of_one_program(program: Program, artifact: SourceArtifact, tmp_path: Path) -> None:
    built = CProgram(artifact, tmp_path / "model", flags=SANITIZED)
    verify(program, built, inputs=[(torch.randn(n, 3, 12, 12),) for n in (1, 3)]).raise_if_failed()


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        # A loop that runs once too often, and a tensor that is used after its last use.
        (r"< 12; ++", r"< 13; ++"),
        ("  softmax_kernel(", "  RELEASE(t_1);\n  softmax_kernel("),
    ],
    ids=["beyond-the-end", "after-the-last-use"],
)
def test_a_fault_is_found(artifact: SourceArtifact, tmp_path: Path, right: str, wrong: str) -> None:
    source = artifact.files["model.c"].decode()
    assert right in source
    spoilt = SourceArtifact(artifact.files, artifact._description)
    spoilt.files["model.c"] = source.replace(right, wrong).encode()
    # Of memory that is used after its release gcc warns already.
    with pytest.raises(RuntimeError, match="AddressSanitizer|after .free"):
        CProgram(spoilt, tmp_path / "model", flags=SANITIZED)(torch.randn(2, 3, 12, 12))


def test_a_wrong_result_is_found(program: Program, artifact: SourceArtifact, tmp_path: Path) -> None:
    spoilt = SourceArtifact(artifact.files, artifact._description)
    spoilt.files["weights.bin"] = bytes(len(artifact.files["weights.bin"]))
    built = CProgram(spoilt, tmp_path / "model", flags=SANITIZED)
    assert not verify(program, built, inputs=[(torch.randn(2, 3, 12, 12),)]).ok


def test_check_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import graphopt.codegen.csource.model as model

    monkeypatch.setattr(model, "_HEAD", model._HEAD + "\n#error spoilt\n")
    assert "spoilt" in str(check(program_of(kernels(1)["elementwise"]), tmp_path / "model"))
