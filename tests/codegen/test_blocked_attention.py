"""Attention in blocks of queries: lengths that fill no tile, groups of heads, masks of every kind."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import graphopt
from graphopt.codegen import Artifact
from graphopt.verification import verify


class Attention(nn.Module):
    def __init__(self, **options: object) -> None:
        super().__init__()
        self.options = options

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        result: torch.Tensor = F.scaled_dot_product_attention(q, k, v, mask, **self.options)  # type: ignore[arg-type]
        return result


def compiled(*inputs: torch.Tensor, dynamic: object = None, **options: object) -> Artifact:
    program = graphopt.capture(Attention(**options).eval(), inputs, dynamic_shapes=dynamic)
    artifact = graphopt.compile(program)
    verify(program, artifact, draws=3 if dynamic else 1, runs=4).raise_if_failed()
    return artifact


def in_blocks(artifact: Artifact) -> bool:
    return any("blocked_attention" in kernel.name for kernel in artifact.kernels())


@pytest.mark.parametrize(
    ("queries", "keys", "depth", "width"),
    [(6, 1, 8, 16), (7, 13, 32, 8), (16, 16, 16, 48), (17, 31, 24, 40), (49, 49, 32, 32), (197, 64, 64, 64)],
)
@pytest.mark.parametrize("causal", [False, True])
def test_lengths_and_head_sizes(queries: int, keys: int, depth: int, width: int, causal: bool) -> None:
    q, k, v = (
        torch.randn(2, 3, queries, depth),
        torch.randn(2, 3, keys, depth),
        torch.randn(2, 3, keys, width),
    )
    assert in_blocks(compiled(q, k, v, is_causal=causal))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [5, 70])
def test_groups_of_heads_share_keys(length: int, causal: bool) -> None:
    """Queries of a group lie one below the other: blocks reach over the end of one head's queries."""
    q, k = torch.randn(2, 6, length, 16), torch.randn(2, 2, length, 16)
    assert in_blocks(compiled(q, k, k.flip(2), is_causal=causal, enable_gqa=True))


@pytest.mark.parametrize("shape", [(9, 21), (1, 1, 9, 21), (2, 1, 1, 21), (1, 4, 9, 1), (2, 4, 9, 21)])
def test_added_masks(shape: tuple[int, ...]) -> None:
    q, k = torch.randn(2, 4, 9, 16), torch.randn(2, 4, 21, 16)
    assert in_blocks(compiled(q, k, k.flip(2), torch.randn(shape)))


class Masked(Attention):
    """A mask that is known while compiling."""

    def __init__(self, mask: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return super().forward(x, x.flip(2), x, self.mask)


@pytest.mark.parametrize(("entry", "read"), [(True, False), (0.0, False), (False, True), (1.5, True)])
def test_known_masks_that_hide_nothing_are_not_read(entry: object, read: bool) -> None:
    x = torch.randn(1, 2, 9, 16)
    mask = torch.full((9, 9), entry is not False) if isinstance(entry, bool) else torch.zeros(9, 9)
    mask[2, 3] = entry
    program = graphopt.capture(Masked(mask).eval(), (x,))
    artifact = graphopt.compile(program)
    verify(program, artifact).raise_if_failed()
    assert ("(T.int64(9), T.int64(9))" in artifact.source()) is read


def test_rows_that_see_no_key_are_zero() -> None:
    q, k = torch.randn(1, 2, 9, 16), torch.randn(1, 2, 21, 16)
    mask = torch.rand(1, 1, 9, 21) > 0.5
    mask[..., 3, :] = False
    mask[..., 8, :] = False
    artifact = compiled(q, k, k.flip(2), mask)
    assert in_blocks(artifact)
    result = artifact(q, k, k.flip(2), mask)[0]
    assert torch.all(result[:, :, [3, 8]] == 0) and torch.all(result[:, :, 0] != 0)


def test_lengths_that_are_not_known() -> None:
    q, k = torch.randn(2, 4, 9, 16), torch.randn(2, 4, 21, 16)
    mask = torch.randn(2, 1, 9, 21)
    dynamic = (
        {0: "batch", 2: "queries"},
        *[{0: "batch", 2: "keys"}] * 2,
        {0: "batch", 2: "queries", 3: "keys"},
    )
    artifact = compiled(q, k, k.flip(2), mask, dynamic=dynamic)
    assert in_blocks(artifact)


def test_causal_lengths_that_are_not_known() -> None:
    x = torch.randn(1, 4, 20, 16)
    assert in_blocks(compiled(x, x.flip(2), x, dynamic=({2: "length"},) * 3, is_causal=True))


def test_large_scores_do_not_overflow() -> None:
    q = 40 * torch.randn(1, 2, 12, 16)
    assert in_blocks(compiled(q, q.flip(2), q))
