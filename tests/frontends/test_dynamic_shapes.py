"""Axes that vary: names, ranges, examples of size 1, and models that torch.export alone refuses."""

import pytest
import torch
from torch import nn
from torch.export import Dim

from graphopt.errors import InputError
from graphopt.frontends.torch_module import capture_torch


class Affine(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.relu(2 * x + 1)


class Masked(nn.Module):
    """Two inputs whose axes broadcast, so nothing in the code ties them."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return x * mask[:, None]


class GroupedCache(nn.Module):
    """A cache of 2 heads for 4 queries: torch.export cannot decide a guard on the strides of the reshape."""

    def forward(self, q: torch.Tensor, *caches: torch.Tensor) -> tuple[torch.Tensor, ...]:
        new = tuple(torch.cat([c, q[:, :2]], dim=2) for c in caches)
        k, v = (
            c[:, :, None].expand(c.shape[0], 2, 2, c.shape[2], 8).reshape(c.shape[0], 4, c.shape[2], 8)
            for c in new
        )
        return (nn.functional.scaled_dot_product_attention(q, k, v), *new)


class FixesBatch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(6, 2, 2)


def test_an_example_of_size_one_stays_dynamic() -> None:
    program = capture_torch(Affine().eval(), (torch.ones(1, 3),), dynamic_shapes=({0: "batch"},))
    assert program.signature.inputs[0].shape == ("batch", 3)
    for batch in (1, 5):
        x = torch.randn(batch, 3)
        assert torch.equal(program(x)[0], Affine()(x))


def test_axes_of_one_name_are_one_dimension() -> None:
    program = capture_torch(
        Masked().eval(), (torch.ones(3, 4), torch.ones(3)), dynamic_shapes=({0: "batch"}, {0: "batch"})
    )
    assert [s.shape for s in program.signature.inputs] == [("batch", 4), ("batch",)]
    assert list(program.signature.dims) == ["batch"]


def test_axes_of_two_names_are_two_dimensions() -> None:
    class Both(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x + 1, y + 2

    program = capture_torch(
        Both().eval(), (torch.ones(3), torch.ones(5)), dynamic_shapes=({0: "first"}, {0: "second"})
    )
    assert [s.shape for s in program.signature.inputs] == [("first",), ("second",)]


def test_ranges_are_kept() -> None:
    batch = Dim("batch", min=2, max=16)
    program = capture_torch(Affine().eval(), (torch.ones(4, 3),), dynamic_shapes=({0: batch},))
    assert program.signature.dims["batch"].max == 16


def test_a_grouped_cache_passed_as_varargs_stays_dynamic() -> None:
    cache = {0: "batch", 2: "past"}
    program = capture_torch(
        GroupedCache().eval(),
        (torch.randn(1, 4, 1, 8), torch.randn(1, 2, 7, 8), torch.randn(1, 2, 7, 8)),
        dynamic_shapes=({0: "batch"}, cache, cache),
    )
    assert program.signature.inputs[2].shape == ("batch", 2, "past", 8)
    assert program.signature.outputs[1].shape == ("batch", 2, "past + 1", 8)
    for batch, past in ((1, 1), (3, 12)):
        x = (torch.randn(batch, 4, 1, 8), torch.randn(batch, 2, past, 8), torch.randn(batch, 2, past, 8))
        for ours, eager in zip(program(*x), GroupedCache()(*x), strict=True):
            assert torch.equal(ours, eager)


def test_an_axis_that_the_code_fixes_is_noted_when_only_named() -> None:
    program = capture_torch(FixesBatch().eval(), (torch.ones(6, 4),), dynamic_shapes=({0: "batch"},))
    assert program.signature.inputs[0].shape[0] == 6
    assert any("'batch'" in note for note in program.notes)


def test_an_axis_that_the_code_fixes_is_an_error_when_promised() -> None:
    batch = Dim("batch", min=2, max=16)
    with pytest.raises(InputError, match="batch"):
        capture_torch(FixesBatch().eval(), (torch.ones(6, 4),), dynamic_shapes=({0: batch},))


def test_inplace_activations_are_captured() -> None:
    class InPlace(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.relu(x - 1, inplace=True)

    program = capture_torch(InPlace().eval(), (torch.ones(2, 3),))
    x = torch.randn(2, 3)
    assert torch.equal(program(x)[0], nn.functional.relu(x - 1))


def test_views_are_captured_as_reshapes() -> None:
    """A view of a transposed tensor runs only while the kernel before it keeps its strides."""

    class ViewsAttention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            heads = x.unflatten(2, (2, 4)).transpose(1, 2)
            mixed = nn.functional.scaled_dot_product_attention(heads, heads, heads)
            return mixed.transpose(1, 2).view(x.shape[0], x.shape[1], 8)

    x = torch.randn(2, 3, 8)
    program = capture_torch(ViewsAttention().eval(), (x,))
    targets = [node.target for node in program.calls()]
    assert torch.ops.aten.view.default not in targets
    assert torch.ops.aten.reshape.default in targets
    assert torch.equal(program(x)[0], ViewsAttention()(x))
