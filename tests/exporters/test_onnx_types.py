"""Types in ONNX: what ONNX or onnxruntime lacks is carried by others; float64 keeps its digits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import onnxruntime.capi.onnxruntime_pybind11_state as runtime
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from graphopt.dialect import registry
from graphopt.dialect.op import DialectOp, OnnxForm
from graphopt.errors import InputError
from graphopt.exporters.onnx import to_onnx, to_onnx_model
from graphopt.exporters.onnx.carry import carry
from graphopt.exporters.onnx.kernels import BFLOAT16_KERNELS, FLOAT8_KERNELS, KERNELS, Kernel
from graphopt.frontends.torch_module import capture_torch
from graphopt.verification import OnnxRuntimeRunner, verify

aten = torch.ops.aten
Form = Callable[..., Any]


class _Forms(nn.Module):
    """The results of several functions of the same operands."""

    def __init__(self, forms: Sequence[Form]) -> None:
        super().__init__()
        self.forms = forms

    def forward(self, *operands: torch.Tensor) -> list[torch.Tensor]:
        results = [form(*operands) for form in self.forms]
        return [y for r in results for y in (r if isinstance(r, (list, tuple)) else [r])]


def exported(tmp_path: Path, forms: Sequence[Form], operands: Sequence[torch.Tensor], **options: Any) -> Any:
    """What torch gives, what onnxruntime gives, and the file's operators."""
    program = capture_torch(_Forms(forms).eval(), operands)
    to_onnx(program, tmp_path / "types.onnx", **options)
    model = onnx.load(tmp_path / "types.onnx")
    found = OnnxRuntimeRunner(tmp_path / "types.onnx")(*operands)
    return program(*operands), found, [node.op_type for node in model.graph.node]


def assert_same(expected: Sequence[torch.Tensor], found: Sequence[torch.Tensor]) -> None:
    assert len(expected) == len(found)
    for i, (a, b) in enumerate(zip(expected, found, strict=True)):
        assert a.dtype == b.dtype and torch.equal(a, b), (i, a, b)


# --- the table -----------------------------------------------------------------------------------


def _registered(opset: int) -> dict[str, list[Any]]:
    """onnxruntime's kernels for the CPU by operator."""
    kernels: dict[str, list[Any]] = {}
    for kernel in runtime.get_all_opkernel_def():
        first, last = kernel.version_range
        if (kernel.provider, kernel.domain) == ("CPUExecutionProvider", "") and first <= opset <= last:
            kernels.setdefault(kernel.op_name, []).append(kernel)
    return kernels


def _types(kernels: list[Any], parameter: str) -> set[str]:
    return {
        t[7:-1] for k in kernels for t in k.type_constraints.get(parameter, ()) if t.startswith("tensor(")
    }


@pytest.mark.parametrize(
    ("operator", "kernel"), [(name, kernel) for name, kernels in KERNELS.items() for kernel in kernels]
)
def test_the_table_says_what_onnxruntime_says(operator: str, kernel: Kernel) -> None:
    names = {"float": "FLOAT", "double": "DOUBLE"}
    opset = 26 if operator == "CumProd" else 23
    found = _types(_registered(opset)[operator], kernel.parameter)
    known = {ir.DataType[names.get(t, t.upper())] for t in found}
    whole = {
        t for t in known if t.is_integer() or t in (ir.DataType.BOOL, ir.DataType.FLOAT, ir.DataType.DOUBLE)
    }
    assert kernel.types == whole


@pytest.mark.parametrize(
    ("type_", "operators"), [("bfloat16", BFLOAT16_KERNELS), ("float8e5m2", FLOAT8_KERNELS)]
)
def test_the_lists_of_small_floats_say_what_onnxruntime_says(type_: str, operators: frozenset[str]) -> None:
    kernels = _registered(23)
    for name in operators - {"CastLike", "Shape"}:  # a function, and what takes every type
        assert type_ in {t for k in kernels[name] for p in k.type_constraints for t in _types([k], p)}, name


# --- carried types -------------------------------------------------------------------------------

INTEGERS = [torch.bool, torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64]


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integers_are_exact(dtype: torch.dtype, tmp_path: Path) -> None:
    """The type's limits are among the operands, so that sums and products wrap."""
    info = torch.iinfo(dtype) if dtype != torch.bool else None
    if info is None:
        a, b = torch.tensor([[True, False, True], [False, False, True]]), torch.tensor([[False], [True]])
    else:
        a = torch.tensor([[info.min, 3, info.max], [1, info.max // 2, 7]], dtype=dtype)
        b = torch.tensor([[info.max], [2]], dtype=dtype)
    moved: list[Form] = [
        lambda a, b: torch.where(a > b, a, b),
        lambda a, b: F.pad(a, (1, 1), value=1),
        lambda a, b: torch.nonzero(a),
        lambda a, b: (torch.maximum(a, b), torch.minimum(a, b)),
        lambda a, b: (a.amax(1), a.amin(0)),
        lambda a, b: torch.sort(a, dim=1, stable=True),
        lambda a, b: (a < b, a == b, a >= b),
        lambda a, b: torch.unique(a, return_inverse=True),
    ]
    computed: list[Form] = [
        lambda a, b: (a + b, a - b, a * b),
        lambda a, b: (-a, a @ b.expand(2, 4)[:1].expand(3, 4)),
        # onnxruntime adds and multiplies along an axis by way of floats: exact where nothing overflows.
        lambda a, b: (
            (a % 99).sum(1, dtype=dtype),
            a.cumsum(1, dtype=dtype),
            (a // 3 % 5).prod(1, dtype=dtype),
        ),
        lambda a, b: (a**3, a**0, a.square(), torch.clamp(a, 2, 5)),
        lambda a, b: (torch.triu(a), torch.tril(a)),
        lambda a, b: (a.argmax(1), a.argmin(0)),
        lambda a, b: (torch.remainder(a, b), torch.fmod(a, b)),
    ]
    forms = moved if dtype == torch.bool else moved + computed
    expected, found, _ = exported(tmp_path, forms, [a, b])
    assert_same(expected, found)


def test_unsigned_64_bits_keep_their_order(tmp_path: Path) -> None:
    """They are carried by int64, whose order is another one; torch has no sort of them."""
    numbers = torch.tensor([3, 2**63 + 5, 0, 2**64 - 1, 2**63 - 1], dtype=torch.uint64)
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.UINT64, [5])
    outputs = [
        onnx.helper.make_tensor_value_info("y", onnx.TensorProto.UINT64, [2]),
        onnx.helper.make_tensor_value_info("i", onnx.TensorProto.INT64, [2]),
    ]
    k = onnx.numpy_helper.from_array(torch.tensor([2]).numpy(), "k")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("TopK", ["x", "k"], ["y", "i"])], "g", [x], outputs, [k]
    )
    model = ir.serde.deserialize_model(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 23)], ir_version=10)
    )
    carry(model, 23)
    onnx.save(ir.serde.serialize_model(model), tmp_path / "topk.onnx")
    values, places = OnnxRuntimeRunner(tmp_path / "topk.onnx")(numbers)
    assert values.tolist() == [2**64 - 1, 2**63 + 5] and places.tolist() == [3, 1]


def test_bfloat16_runs_in_float32_and_is_rounded_after_each_node(tmp_path: Path) -> None:
    forms: list[Form] = [
        lambda x: (x.bfloat16() * 1.7 + 0.3).float(),
        lambda x: (x.bfloat16() @ x.bfloat16().T).float(),
        lambda x: torch.where(x > 0, x.bfloat16(), x.bfloat16() * 2).float(),
        lambda x: torch.relu(x.bfloat16()).float(),
        lambda x: x.bfloat16().sort(dim=1, stable=True)[0].float(),
    ]
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    program = capture_torch(_Forms(forms).eval(), [x])
    to_onnx(program, tmp_path / "bf16.onnx")
    verify(program, OnnxRuntimeRunner(tmp_path / "bf16.onnx"), inputs=[x], runs=2).raise_if_failed()


def test_types_with_a_kernel_stay_as_they_are(tmp_path: Path) -> None:
    """float16 is onnxruntime's own affair; int32 and float32 need nothing."""
    for dtype in (torch.float16, torch.float32, torch.int32):
        a = torch.ones(3, 4).to(dtype)
        _, _, nodes = exported(tmp_path, [lambda a: torch.maximum(a, a + 1)], [a])
        assert "Cast" not in nodes, (dtype, nodes)


# --- bits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64], ids=str)
def test_shifts(dtype: torch.dtype, tmp_path: Path) -> None:
    info = torch.iinfo(dtype)
    x = torch.tensor([info.min, info.max, info.max // 3, info.min // 3, 1, 0], dtype=dtype)[:, None]
    low = -2 if info.min else 0
    counts = torch.tensor([low, 0, 1, 5, info.bits - 2, info.bits - 1, info.bits, info.bits + 3], dtype=dtype)
    forms: list[Form] = [
        lambda x, n: (x << n, x >> n),
        lambda x, n: (x << 3, x >> 3, x << info.bits, x >> info.bits),
    ]
    expected, found, _ = exported(tmp_path, forms, [x, counts])
    assert_same(expected, found)


def test_bits_are_read_as_another_type(tmp_path: Path) -> None:
    x = torch.tensor([1.5, -0.0, math.inf, math.nan, 1e-42])
    forms: list[Form] = [
        lambda x: x.view(torch.int32),
        lambda x: (x.view(torch.int32) ^ -(2**31)).view(torch.float32)[:3],
        lambda x: x.double().view(torch.int64),
        lambda x: x.view(torch.int32).to(torch.int16).view(torch.float16).view(torch.int16),
        lambda x: (x > 0).view(torch.uint8),
        lambda x: x.view(torch.int32).to(torch.int8).view(torch.uint8),
    ]
    expected, found, nodes = exported(tmp_path, forms, [x])
    assert_same(expected, found)
    assert "BitCast" in nodes


def test_bits_need_opset_26(tmp_path: Path) -> None:
    program = capture_torch(_Forms([lambda x: x.view(torch.int32)]).eval(), [torch.ones(3)])
    assert to_onnx_model(program).opset_imports[""] == 26
    with pytest.raises(InputError, match="BitCast came with opset 26") as error:
        to_onnx_model(program, opset=23)
    assert error.value.code == "GO-3006" and error.value.node is not None
    same_width = capture_torch(
        _Forms([lambda x: x.view(torch.uint8)]).eval(), [torch.ones(3, dtype=torch.int8)]
    )
    assert to_onnx_model(same_width, opset=18).opset_imports[""] == 18


def test_bits_of_another_width_are_refused() -> None:
    program = capture_torch(_Forms([lambda x: x.view(torch.int16)]).eval(), [torch.ones(3)])
    with pytest.raises(InputError, match="another width") as error:
        to_onnx_model(program)
    assert error.value.code == "GO-3006"


def test_a_cumulative_product_of_any_length_needs_opset_26(tmp_path: Path) -> None:
    x = torch.linspace(-1.5, 1.5, 10).reshape(2, 5)
    program = capture_torch(
        _Forms([lambda x: x.cumprod(1)]).eval(), [x], dynamic_shapes=[{1: "length"}], input_names=["x"]
    )
    to_onnx(program, tmp_path / "products.onnx")
    assert [n.op_type for n in onnx.load(tmp_path / "products.onnx").graph.node] == ["CumProd"]
    runner = OnnxRuntimeRunner(tmp_path / "products.onnx")
    verify(program, runner, inputs=[x], runs=2, shapes=[{"length": 9}]).raise_if_failed()
    with pytest.raises(InputError, match="CumProd came with opset 26"):
        to_onnx_model(program, opset=25)


def test_powers_of_two_in_eight_bits(tmp_path: Path) -> None:
    """Every float8_e8m0, from its bits and back; onnxruntime only converts the type."""
    forms: list[Form] = [
        lambda x: x.view(torch.float8_e8m0fnu).float().nan_to_num(nan=-1.0),
        lambda x: x.view(torch.float8_e8m0fnu).float().to(torch.float8_e8m0fnu).view(torch.uint8),
    ]
    expected, found, _ = exported(tmp_path, forms, [torch.arange(256).to(torch.uint8)])
    assert_same(expected, found)


@pytest.mark.parametrize(
    "dtype",
    [torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz],
    ids=str,
)
def test_every_float16_becomes_the_same_float8(dtype: torch.dtype, tmp_path: Path) -> None:
    every = torch.arange(2**16).to(torch.uint16).view(torch.float16)
    forms: list[Form] = [lambda x: x.to(dtype).float(), lambda x: x.float().to(dtype).float()]
    expected, found, _ = exported(tmp_path, forms, [every])
    for a, b in zip(expected, found, strict=True):
        assert torch.equal(a.isnan(), b.isnan())
        assert torch.equal(a.nan_to_num(), b.nan_to_num())
    with pytest.raises(InputError, match="float8 came with opset 19"):
        to_onnx_model(capture_torch(_Forms(forms).eval(), [every]), opset=18)


# --- float64 -------------------------------------------------------------------------------------


def test_float64_keeps_its_digits(tmp_path: Path) -> None:
    """Numbers of Python are float64; attributes of nodes, and torch.onnx's constants, are float32."""
    forms: list[Form] = [
        lambda x: (x * 0.1, x + 0.3, 0.7 - x, x / 0.9, x.clamp(-0.1, 0.1)),
        lambda x: torch.where(x > 0.1, x, 0.3),
        lambda x: torch.full_like(x, 0.1) + torch.full((5,), 0.1, dtype=torch.float64),
        lambda x: (x.masked_fill(x > 0, 0.1), F.pad(x, (1, 1), value=0.1)),
        lambda x: (F.leaky_relu(x, 0.01), F.elu(x, 0.3), F.celu(x, 0.3), F.selu(x), F.softplus(x, 0.3)),
        lambda x: (F.hardsigmoid(x), F.hardswish(x), F.mish(x), F.gelu(x, approximate="tanh")),
        lambda x: (x.abs().log2(), x.abs().log10(), torch.lerp(x, x * 3, 0.3), torch.nan_to_num(x / 0)),
        lambda x: (x.sinh(), x.cosh(), x.asinh(), (x.abs() + 1).acosh(), (x * 0.1).atanh()),
        lambda x: (F.layer_norm(x, [5]), F.rms_norm(x, [5], eps=1e-3), F.group_norm(x, 2, eps=1e-3)),
        lambda x: (F.instance_norm(x), F.batch_norm(x, x[0, :, 0], x[0, :, 1].abs(), eps=1e-3)),
        lambda x: F.scaled_dot_product_attention(x, x, x),
        lambda x: (torch.addcmul(x, x, x, value=0.1), torch.add(x, x, alpha=0.1), torch.pow(x.abs(), 0.3)),
        lambda x: torch.linalg.vector_norm(x, 3, dim=-1),
    ]
    x = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    program = capture_torch(_Forms(forms).eval(), [x])
    to_onnx(program, tmp_path / "double.onnx")
    verify(program, OnnxRuntimeRunner(tmp_path / "double.onnx"), inputs=[x], runs=2).raise_if_failed()


# --- the dialect ---------------------------------------------------------------------------------


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("op", registry.all_ops(), ids=lambda op: op.name)
def test_dialect(op: DialectOp, dtype: torch.dtype, tmp_path: Path) -> None:
    """All samples of an op; bfloat16 is made in the graph, as onnxruntime's Python has no such inputs."""
    assert isinstance(op.onnx, OnnxForm)
    if dtype == torch.float64 and dtype not in op.onnx.dtypes:
        pytest.skip("the form has a node without a float64 kernel")
    given = torch.float32 if dtype == torch.bfloat16 else dtype
    samples = [sample.to(given) for sample in op.samples()]

    class Calls(nn.Module):
        def forward(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
            following = iter(t.to(dtype) if t.is_floating_point() else t for t in tensors)
            results = []
            for sample in samples:
                y = op.overload(*(next(following) if _is_tensor(a) else a for a in sample.args))
                results.append(y.to(given))
            return results

    tensors = [a.clone() for sample in samples for a in sample.args if _is_tensor(a)]
    program = capture_torch(Calls().eval(), tensors)
    to_onnx(program, tmp_path / "dialect.onnx")
    report = verify(program, OnnxRuntimeRunner(tmp_path / "dialect.onnx"), inputs=tensors, runs=1)
    assert [o.problem for draw in report.draws for o in draw.outputs if not o.ok] == []


# --- what changed with them ----------------------------------------------------------------------


def test_remainders_have_the_divisors_sign_and_all_their_digits(tmp_path: Path) -> None:
    x = torch.tensor([-3.0, 3.0, -1.0, 1.0, 7.1, -7.1, 1e7])[:, None]
    y = torch.tensor([math.inf, -math.inf, 2.0, -2.0, 0.1, 3.3])
    expected, found, _ = exported(tmp_path, [torch.remainder, lambda x, y: x % 0.7], [x, y])
    assert_same(expected, found)


def test_a_reshape_to_no_elements(tmp_path: Path) -> None:
    forms: list[Form] = [lambda x: x[:0].reshape(3, 0, 2), lambda x: x.reshape(-1, 2)]
    expected, found, _ = exported(tmp_path, forms, [torch.ones(4, 6)])
    assert_same(expected, found)


def test_sizes_that_data_decides(tmp_path: Path) -> None:
    """torch puts checks of such a size into the graph, when it takes another call apart."""
    forms: list[Form] = [
        lambda x: torch.nonzero(x > 0),
        lambda x: aten.unique_dim.default(x[0], 0, True, True, True),
        lambda x: aten.special_entr.default(x.abs()),  # has no translation of its own
    ]
    x = torch.tensor([[1.0, -2.0, 1.0, 3.0]])
    program = capture_torch(_Forms(forms).eval(), [x])
    to_onnx(program, tmp_path / "sizes.onnx")
    verify(program, OnnxRuntimeRunner(tmp_path / "sizes.onnx"), inputs=[x], runs=1).raise_if_failed()


@pytest.mark.parametrize(("zero", "node"), [(0, "ConvInteger"), (3, "MatMul")])
def test_a_quantised_convolution_by_channels(zero: int, node: str, tmp_path: Path) -> None:
    """ConvInteger has one zero point; where those of the channels are all 0 it needs none."""

    class Quantised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            generator = torch.Generator().manual_seed(0)
            weight = torch.randint(-100, 100, (6, 3, 3, 3), generator=generator).to(torch.int8)
            self.register_buffer("weight", weight)
            self.register_buffer("zeros", torch.tensor([0, 0, 0, 0, 0, zero], dtype=torch.int8))
            self.register_buffer("zero", torch.tensor(120, dtype=torch.uint8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            zeros = self.zeros.to(torch.int32).reshape(-1, 1, 1, 1)
            centred = x.to(torch.int32) - self.zero.to(torch.int32)
            return F.conv2d(centred, self.weight.to(torch.int32) - zeros)

    x = torch.randint(0, 256, (2, 3, 7, 7), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    program = capture_torch(Quantised().eval(), [x])
    to_onnx(program, tmp_path / "quantised.onnx")
    assert node in {n.op_type for n in onnx.load(tmp_path / "quantised.onnx").graph.node}
    assert_same(program(x), OnnxRuntimeRunner(tmp_path / "quantised.onnx")(x))
