"""The zoo itself: what it promises to those who build on it."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmarks.zoo import MissingRequirement, entry, get, names
from benchmarks.zoo.registry import build
from benchmarks.zoo.weights import randomise

NAMED_IN_THE_DOCS = {
    "ppocr-det", "ppocr-rec", "ppocr-cls", "minilm", "minilm-onnx", "llama-onnx-prefill", "llama-onnx-decode",
    "smollm2-prefill", "smollm2-decode", "resnet50", "mobilenet-v2", "convnext-t", "swin-t", "vit-s",
    "poolformer-s12", "pvt-v2-b0", "cvt-13", "bert-base", "gpt2-prefill", "gpt2-decode", "qwen2-prefill",
    "qwen2-decode", "qwen3-prefill", "qwen3-decode", "t5-small-encoder", "t5-small-decode",
    "whisper-tiny-encoder", "whisper-tiny-decode", "detr-resnet50", "deepseek-v2-prefill",
    "deepseek-v2-decode",
}  # fmt: skip


def test_every_named_model_is_there() -> None:
    assert set(names()) >= NAMED_IN_THE_DOCS


def test_importing_the_zoo_imports_neither_torch_nor_transformers() -> None:
    code = "import sys, benchmarks.zoo; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(KeyError, match="did you mean 'resnet50'"):
        get("resnet-50")


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(ValueError, match="'medium'"):
        get("resnet50", size="medium")  # type: ignore[arg-type]


def test_a_missing_package_is_named() -> None:
    absent = replace(entry("resnet50"), requires=("transformers", "no_such_package"))
    with pytest.raises(
        MissingRequirement, match="'resnet50' needs no_such_package: pip install no-such-package"
    ):
        build(absent, "small")


def test_names_are_unique() -> None:
    assert len(set(names())) == len(names())


def test_builds_are_reproducible() -> None:
    first, second = (get("mobilenet-v2", size="small") for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.inputs, second.inputs, strict=True))
    assert first.module is not None and second.module is not None
    pairs = zip(first.module.state_dict().values(), second.module.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_random_weights_hide_no_layer() -> None:
    """Every parameter and BatchNorm statistic of a scaled, normalised block moves the output."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.norm = nn.BatchNorm2d(4)
            self.gamma = nn.Parameter(torch.full((4,), 1e-6))
            self.shift = nn.LayerNorm(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            branch = self.gamma.view(1, 4, 1, 1) * self.norm(self.conv(x))
            return x[:, :1, 1:-1, 1:-1] + branch + self.shift(x[:, :1, 1:-1, 1:-1])

    block = randomise(Block())
    x = torch.randn(1, 3, 6, 6)
    before = block(x)
    tensors = {
        **dict(block.named_parameters()),
        "mean": block.norm.running_mean,
        "var": block.norm.running_var,
    }
    for name, tensor in tensors.items():
        assert isinstance(tensor, torch.Tensor)
        assert tensor.numel() == 1 or tensor.unique().numel() == tensor.numel(), name
        original = tensor.clone()
        with torch.no_grad():
            tensor.mul_(1.5)
        assert (block(x) - before).abs().max() > 1e-3 * before.abs().max(), name
        with torch.no_grad():
            tensor.copy_(original)


def test_capture_inputs_leave_no_axis_that_torch_would_fix() -> None:
    model = get("resnet50", size="small")
    (picture,) = model.capture_inputs()
    batch, _, height, width = picture.shape
    assert batch > 1 and height != width and height % 32 == width % 32 == 0


def test_resized_inputs_follow_the_names_of_the_axes() -> None:
    model = get("bert-base", size="small")
    ids, mask = model.resized({"batch": 3, "sequence": 11})
    assert ids.shape == mask.shape == (3, 11)
    assert set(mask.unique().tolist()) <= {0, 1}
