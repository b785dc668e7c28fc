"""Operators where ONNX's own tests stop: dynamic axes, other attributes, and what is refused."""

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from graphopt.errors import InputError
from graphopt.frontends.onnx import import_onnx
from graphopt.frontends.onnx.converters.cast import to_e8m0
from graphopt.verification import OnnxRuntimeRunner, verify


def _model(text: str, opset: int = 17) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]>\n{text}')


def _agrees_with_onnxruntime(text: str, opset: int = 17) -> None:
    model = _model(text, opset)
    program = import_onnx(model).check()
    verify(program, OnnxRuntimeRunner(model.SerializeToString())).raise_if_failed()


@pytest.mark.parametrize(
    "text",
    [
        """g (float[N, 4, H, W] x) => (float[N, 6, H, 5] y)
        <int64[4] shape = {2, 6, 7, 5}, int64[2] axes = {1, 3}, int64[2] part = {6, 5}> {
            y = CenterCropPad <axes = [1, 3]> (x, part)
        }""",
        """g (float[N, 3, H, W] x, float[R, 4] rois, int64[R] image) => (float[R, 3, 2, 3] y) {
            zero = Sub(image, image)
            y = RoiAlign <output_height = 2, output_width = 3, sampling_ratio = 2, mode = "max",
                coordinate_transformation_mode = "half_pixel"> (x, rois, zero)
        }""",
        """g (float[N, 5, D] x, int64[N, D] t, float[5] w) => (float l, float[N, 5, D] p) {
            five = Constant <value_int = 5> ()
            class = Mod(t, five)
            l, p = SoftmaxCrossEntropyLoss <reduction = "mean", ignore_index = 2> (x, class, w)
        }""",
        """g (float[N, 6] x) => (float[N, 2] a, float[N, 4] b)
        <int64[2] parts = {2, 4}> { a, b = Split <axis = 1> (x, parts) }""",
    ],
)
def test_dynamic_axes(text: str) -> None:
    _agrees_with_onnxruntime(text, opset=18)


@pytest.mark.parametrize("index", ["int64[1] i = {1}", "int64[1] i = {-1}"])
def test_an_index_of_one_element_keeps_its_axis(index: str) -> None:
    text = f"g (float[3, N] x) => (float[1, N] y) <{index}> {{ y = Gather <axis = 0> (x, i) }}"
    _agrees_with_onnxruntime(text)
    (y,) = import_onnx(_model(text)).signature.outputs
    assert len(y.shape) == 2


def test_an_index_without_axes_takes_one_away() -> None:
    _agrees_with_onnxruntime(
        "g (float[3, N] x) => (float[N] y) <int64 i = {1}> { y = Gather <axis = 0> (x, i) }"
    )


def test_a_signal_may_have_any_length() -> None:
    """onnxruntime leaves noise where the imaginary part is zero; the file at a fixed length is the judge."""
    model = _model(
        """g (float[B, L, 1] x) => (float[B, F, 9, 2] y)
        <int64 step = {4}, int64 frame = {16}> { y = STFT (x, step, , frame) }"""
    )
    program = import_onnx(model).check()
    for length in (20, 50):
        x = torch.randn(2, length, 1, generator=torch.Generator().manual_seed(0))
        fixed = import_onnx(model, dims={"B": 2, "L": length})
        assert torch.equal(program(x)[0], fixed(x)[0])


@pytest.mark.parametrize("pads", [[0, 1, 2, 0], [1, 1, 1, 1]])
def test_columns_become_an_image_under_unequal_pads(pads: list[int]) -> None:
    text = f"""g (float[2, 12, 12] x) => (float[2, 2, 4, 5] y)
    <int64[2] image = {{4, 5}}, int64[2] block = {{2, 3}}> {{
        y = Col2Im <pads = {pads}, strides = [2, 1]> (x, image, block)
    }}"""
    rows = (4 + pads[0] + pads[2] - 2) // 2 + 1
    columns = 5 + pads[1] + pads[3] - 2
    model = _model(text.replace("[2, 12, 12]", f"[2, 12, {rows * columns}]"), opset=18)
    x = np.arange(2 * 12 * rows * columns, dtype=np.float32).reshape(2, 12, -1)
    (want,) = ReferenceEvaluator(model).run(None, {"x": x})
    assert np.array_equal(import_onnx(model)(torch.from_numpy(x))[0].numpy(), want)


def test_skipped_tokens_count_evenly() -> None:
    text = """g (int64[B, 6] x) => (float[B, 4] y) {
        y = TfIdfVectorizer <mode = "TFIDF", min_gram_length = 1, max_gram_length = 2, max_skip_count = 3,
            ngram_counts = [0, 2], ngram_indexes = [3, 0, 1, 2], pool_int64s = [5, 7, 5, 7, 7, 5],
            weights = [0.5, 2.0, 3.0, 4.0]> (x)
    }"""
    model = _model(text)
    x = np.array([[5, 7, 5, 5, 7, 7], [7, 1, 5, 7, 1, 5], [1, 2, 3, 4, 5, 6]])
    (want,) = ReferenceEvaluator(model).run(None, {"x": x})
    assert np.array_equal(import_onnx(model).check()(torch.from_numpy(x))[0].numpy(), want)


def test_a_large_unsigned_constant_keeps_its_value() -> None:
    model = _model("g (uint64[N] x) => (uint64[N] y, bool[N] b) { y = Add(x, c)\n b = Less(x, c) }")
    top = 2**64 - 2
    model.graph.initializer.append(onnx.helper.make_tensor("c", onnx.TensorProto.UINT64, [], [top]))
    x = np.array([0, 1, 5, top, top + 1], np.uint64)
    y, less = import_onnx(model)(torch.from_numpy(x))
    assert np.array_equal(y.numpy(), x + np.uint64(top))
    assert less.tolist() == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("mode", "saturate", "given", "want"),
    [
        ("up", True, [1.0, 1.1, 2.0**-127, 2.0**-126, 3e38, np.inf, np.nan], [127, 128, 0, 1, 254, 254, 255]),
        ("nearest", True, [1.0, 1.4, 1.6, 0.0, 3e38], [127, 127, 128, 0, 254]),
        ("down", True, [1.9, 2.0, 0.0], [127, 128, 0]),
        ("nearest", False, [0.0, np.inf, 3e38, 1.0], [255, 255, 255, 127]),
    ],
)
def test_powers_of_two(mode: str, saturate: bool, given: list[float], want: list[int]) -> None:
    """The table of Cast-24; the bits are the exponent of float32, 255 is NaN."""
    result = to_e8m0(torch.tensor(given), mode, saturate)
    assert result.view(torch.uint8).tolist() == want


def _refused(text: str, match: str, opset: int = 17) -> None:
    with pytest.raises(InputError, match=match) as caught:
        import_onnx(_model(text, opset))
    assert caught.value.code == "GO-3006"
    assert caught.value.node


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (
            """g (float[N, 4] x, int64[N] t) => (float l) {
                l = NegativeLogLikelihoodLoss <reduction = "max"> (x, t)
            }""",
            "the reduction 'max'",
        ),
        (
            """g (float[N, 3, 8, 8] x, float[R, 4] r, int64[R] i) => (float[R, 3, 1, 1] y) {
                y = RoiAlign (x, r, i)
            }""",
            "sampling_ratio=0",
        ),
        (
            """g (float[N, 3] x) => (float[N, 3] y) <int64 place = {2}> {
                parts = SequenceConstruct(x, x)
                y = SequenceAt(parts, place)
            }""",
            "position 2 in a sequence of 2",
        ),
        (
            """g (float[N, 3] x) => (float[N, 3] y) {
                parts = SequenceEmpty()
                y = ConcatFromSequence <axis = 0> (parts)
            }""",
            "concatenates an empty sequence",
        ),
        (
            "g (float[2, 8, 2] x) => (float[2, 8, 2] y) { y = DFT <axis = 2> (x) }",
            "the axis of real and imaginary",
        ),
        (
            """g (float[4] x) => (float[4] y) <float half = {0.5}, bool yes = {1}> {
                y = Dropout(x, half, yes)
            }""",
            "training mode, and random",
        ),
    ],
)
def test_refused(text: str, match: str) -> None:
    _refused(text, match)
