"""Every operator that code generation converts, as ONNX: onnxruntime agrees, or the export is refused.

The calls are the samples of ``tests/codegen_relax``; many of them are one program, exported once.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "codegen_relax"))  # samples and packing stand there

import samples_movement  # noqa: E402, F401
import samples_pointwise  # noqa: E402, F401
import samples_structure  # noqa: E402, F401
from packing import SIZE, Call, pack, runs_in_torch, tensors_of  # noqa: E402
from samples import SAMPLES  # noqa: E402

from graphopt.errors import InputError  # noqa: E402
from graphopt.exporters.onnx import to_onnx, to_onnx_model  # noqa: E402
from graphopt.verification import OnnxRuntimeRunner, verify  # noqa: E402

UNDEFINED = ("aten.empty", "aten.new_empty")
"""Operators whose results hold whatever was in memory."""

_IS_LESS_ACCURATE = "onnxruntime has Erf only, and 1 - erf loses the digits of a small result"
_IGNORES_NAN = "onnxruntime's kernels pass NaN by"
_NO_INTEGER_KERNEL = "valid ONNX; onnxruntime has no kernel for integers"

NOT_COMPARED: dict[torch.dtype, dict[str, str]] = {
    torch.float32: {
        **dict.fromkeys(
            ("aten.amax.default#3", "aten.max.dim#2", "aten.min.dim#2", "aten.argmax.default#3",
             "aten.argmin.default#3"),
            _IGNORES_NAN,
        ),
    },
    torch.int64: {
        "aten.erfc.default#0": _IS_LESS_ACCURATE,
        "aten.pixel_shuffle.default#0": _NO_INTEGER_KERNEL,
    },
}  # fmt: skip
"""Calls that onnxruntime computes otherwise, with the reason."""

REFUSED: dict[torch.dtype, dict[str, str]] = {
    torch.float32: {
        "aten.cumprod.default#1": "symbolic axis",
        "aten.adaptive_avg_pool2d.default#2": "symbolic sizes",
        "aten._adaptive_avg_pool2d.default#2": "symbolic sizes",
    },
    torch.int64: {
        "aten.cumprod.default#1": "symbolic axis",
        "aten.convolution.default#1": "of integers",
        "aten.max_pool2d_with_indices.default#0": "of integers",
        **{f"aten.conv_transpose{n}#0": "of integers" for n in ("1d.default", "3d.input")},
        **{f"aten.conv_transpose2d.input#{i}": "of integers" for i in range(5)},
        **{f"aten.avg_pool{n}d.default#0": "of integers" for n in (1, 3)},
        **{f"aten.avg_pool2d.default#{i}": "of integers" for i in range(5)},
    },
}
"""Calls that have no ONNX form, with words of the message."""

_PACK = 48


def key(call: Call) -> str:
    return f"{call.target}#{call.seed}"


def calls_of(dtype: torch.dtype) -> list[Call]:
    """Every sample in float32; of integers the first of each operator, which finds what types break."""
    skipped = {*NOT_COMPARED[dtype], *REFUSED[dtype]}
    return [
        call
        for target, samples in SAMPLES.items()
        if not str(target).startswith(UNDEFINED)
        for seed, sample in enumerate(samples if dtype == torch.float32 else samples[:1])
        if key(call := Call(target, sample, seed)) not in skipped and runs_in_torch(call, dtype)
    ]


def packs(calls: list[Call]) -> Iterator[list[Call]]:
    iterator = iter(calls)
    while batch := list(itertools.islice(iterator, _PACK)):
        yield batch


@pytest.mark.filterwarnings("ignore:.*reduce argument of torch.scatter")
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64], ids=str)
def test_onnxruntime_agrees(dtype: torch.dtype, tmp_path: Path) -> None:
    wrong: dict[str, str] = {}
    for batch in packs(calls_of(dtype)):
        program = pack(batch, dtype, symbolic=True)
        to_onnx(program, tmp_path / "samples.onnx")
        runner = OnnxRuntimeRunner(tmp_path / "samples.onnx")
        owners = [key(call) for call in batch for _ in call.run(dtype, SIZE)]
        names = [spec.name for spec in program.signature.outputs]
        for size in (SIZE, 3):
            inputs = tuple(x for call in batch for x in tensors_of(call.operands(dtype, size)))
            report = verify(program, runner, inputs=inputs, runs=4)
            for output in (o for draw in report.draws for o in draw.outputs if not o.ok):
                wrong[f"{owners[names.index(output.name)]} with n={size}"] = str(output.problem)
    assert wrong == {}


_WIDENED = ("abs", "sum", "prod", "amax", "amin", "cumsum", "mean", "softmax", "layer_norm", "linear")


def test_float16_stays_float16(tmp_path: Path) -> None:
    """torch.onnx gives reductions of float16 the float32 that they accumulate in."""
    calls = [
        call
        for target, samples in SAMPLES.items()
        if str(target).split(".")[1] in _WIDENED
        for seed, sample in enumerate(samples)
        if key(call := Call(target, sample, seed)) not in NOT_COMPARED[torch.float32]
        and runs_in_torch(call, torch.float16)
    ]
    assert len(calls) > len(_WIDENED)
    program = pack(calls, torch.float16, symbolic=False)
    to_onnx(program, tmp_path / "half.onnx")
    inputs = tuple(x for call in calls for x in tensors_of(call.operands(torch.float16, SIZE)))
    runner = OnnxRuntimeRunner(tmp_path / "half.onnx")
    assert [y.dtype for y in runner(*inputs)] == [spec.dtype for spec in program.signature.outputs]
    report = verify(program, runner, inputs=inputs, runs=4)
    assert [o.problem for draw in report.draws for o in draw.outputs if not o.ok] == []


@pytest.mark.parametrize(
    ("dtype", "name"), [(dtype, name) for dtype, names in REFUSED.items() for name in names], ids=str
)
def test_what_has_no_form_is_refused(dtype: torch.dtype, name: str) -> None:
    target = next(t for t in SAMPLES if str(t) == name.split("#")[0])
    call = Call(target, SAMPLES[target][int(name.split("#")[1])], int(name.split("#")[1]))
    with pytest.raises(InputError, match=REFUSED[dtype][name]) as error:
        to_onnx_model(pack([call], dtype, symbolic=True))
    assert error.value.code == "GO-3006"


def test_a_type_that_onnx_lacks_is_refused_with_the_operator(tmp_path: Path) -> None:
    target = torch.ops.aten.min.dim
    program = pack([Call(target, SAMPLES[target][0], 0)], torch.bool, symbolic=False)
    with pytest.raises(InputError, match="ONNX has no Arg(Min|Max) of bool") as error:
        to_onnx(program, tmp_path / "booleans.onnx")
    assert error.value.code == "GO-3006"
    assert not (tmp_path / "booleans.onnx").exists()
