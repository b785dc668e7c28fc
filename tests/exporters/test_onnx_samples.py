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
from graphopt.exporters.onnx.write import check  # noqa: E402
from graphopt.verification import OnnxRuntimeRunner, verify  # noqa: E402

UNDEFINED = ("aten.empty", "aten.new_empty")
"""Operators whose results hold whatever was in memory."""

_IS_LESS_ACCURATE = "onnxruntime has Erf only, and 1 - erf loses the digits of a small result"
_IGNORES_NAN = "onnxruntime's kernels pass NaN by"
_NO_INTEGER_KERNEL = "valid ONNX; onnxruntime has no kernel for integers"
_NO_DOUBLE_KERNEL = "valid ONNX; onnxruntime has no kernel for float64"
_OVERFLOWS = "onnxruntime raises integers to tensors of powers by way of float64, which does not wrap"

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
    torch.bool: dict.fromkeys(
        ("aten.__lshift__.Scalar#0", "aten.__rshift__.Scalar#0"), "eager torch only: no program holds it"
    ),
    torch.uint8: {
        "aten.erfc.default#0": _IS_LESS_ACCURATE,
        "aten.pow.Tensor_Tensor#0": _OVERFLOWS,
    },
    torch.int8: {"aten.erfc.default#0": _IS_LESS_ACCURATE},
    torch.int32: {
        "aten.erfc.default#0": _IS_LESS_ACCURATE,
        "aten.pixel_shuffle.default#0": _NO_INTEGER_KERNEL,
    },
    torch.float16: {},
    torch.float64: dict.fromkeys(
        (
            *(f"aten.{name}.default#0" for name in (
                "tan", "atan", "atan2", "asin", "acos", "erf", "erfc", "gelu", "convolution", "conv1d",
                "conv2d", "conv3d", "conv_transpose1d", "avg_pool1d", "avg_pool2d", "avg_pool3d",
            )),
            *(f"aten.{name}#0" for name in (
                "conv1d.padding", "conv2d.padding", "conv3d.padding", "conv_transpose2d.input",
                "conv_transpose3d.input", "gru.input", "lstm.input",
            )),
            *(f"aten.{name}.{overload}#0" for overload in ("vec", "default") for name in (
                "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_linear1d",
                "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d",
            )),
            *(f"aten._upsample_nearest_exact{n}d.default#0" for n in (1, 2, 3)),
        ),
        _NO_DOUBLE_KERNEL,
    ),
}  # fmt: skip
"""Calls that onnxruntime computes otherwise, with the reason."""

REFUSED: dict[torch.dtype, dict[str, str]] = {
    torch.float32: {
        "aten.adaptive_avg_pool2d.default#2": "symbolic sizes",
        "aten._adaptive_avg_pool2d.default#2": "symbolic sizes",
    },
    torch.int64: {
        "aten.convolution.default#1": "of integers",
        **{f"aten.conv_transpose{n}#0": "of integers" for n in ("1d.default", "3d.input")},
        **{f"aten.conv_transpose2d.input#{i}": "of integers" for i in range(5)},
        **{f"aten.avg_pool{n}d.default#0": "of integers" for n in (1, 3)},
        **{f"aten.avg_pool2d.default#{i}": "of integers" for i in range(5)},
    },
    torch.uint8: {
        f"aten.upsample_{rule}2d.{overload}#0": "of integers"
        for rule in ("bilinear", "bicubic")
        for overload in ("vec", "default")
    },
}
"""Calls that have no ONNX form, with words of the message."""

_PACK = 48


def key(call: Call) -> str:
    return f"{call.target}#{call.seed}"


def calls_of(dtype: torch.dtype, first: int | None = None) -> list[Call]:
    """Every sample, or the first of each operator, which finds what types break."""
    skipped = {*NOT_COMPARED[dtype], *REFUSED.get(dtype, {})}
    return [
        call
        for target, samples in SAMPLES.items()
        if not str(target).startswith(UNDEFINED)
        for seed, sample in enumerate(samples[:first])
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
    for batch in packs(calls_of(dtype, None if dtype == torch.float32 else 1)):
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


@pytest.mark.filterwarnings("ignore:.*reduce argument of torch.scatter")
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.uint8, torch.int8, torch.int32, torch.float16, torch.float64], ids=str
)
def test_onnxruntime_agrees_in_other_types(dtype: torch.dtype, tmp_path: Path) -> None:
    """The first sample of each operator, of fixed sizes."""
    wrong: dict[str, str] = {}
    calls = [call for call in calls_of(dtype, 1) if tensors_of(call.operands(dtype, SIZE))]
    assert len(calls) > 200
    for batch in packs(calls):
        program = pack(batch, dtype, symbolic=False)
        to_onnx(program, tmp_path / "samples.onnx")
        owners = [key(call) for call in batch for _ in call.run(dtype, SIZE)]
        names = [spec.name for spec in program.signature.outputs]
        inputs = tuple(x for call in batch for x in tensors_of(call.operands(dtype, SIZE)))
        report = verify(program, OnnxRuntimeRunner(tmp_path / "samples.onnx"), inputs=inputs, runs=1)
        for output in (o for draw in report.draws for o in draw.outputs if not o.ok):
            wrong[owners[names.index(output.name)]] = str(output.problem)
    assert wrong == {}


@pytest.mark.parametrize("name", sorted(NOT_COMPARED[torch.float64]))
def test_float64_without_a_kernel_is_the_standard_node(name: str) -> None:
    """The files are valid; another runtime may have the kernels."""
    target = next(t for t in SAMPLES if str(t) == name.split("#")[0])
    check(to_onnx_model(pack([Call(target, SAMPLES[target][0], 0)], torch.float64, symbolic=False)))


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
