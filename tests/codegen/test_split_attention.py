"""Attention of a few queries: keys in parts, that the merged result must not show."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import graphopt
from graphopt.codegen import Artifact
from graphopt.codegen.relax import split_attention
from graphopt.errors import VerificationError
from graphopt.verification import verify


class Attention(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        return F.scaled_dot_product_attention(q, k, v, mask, **self.options)


def compiled(*inputs: torch.Tensor, dynamic: Any = None, **options: Any) -> Artifact:
    program = graphopt.capture(Attention(**options).eval(), inputs, dynamic_shapes=dynamic)
    artifact = graphopt.compile(program)
    verify(program, artifact, draws=3 if dynamic else 1, runs=4).raise_if_failed()
    return artifact


def is_split(artifact: Artifact) -> bool:
    return "split-attention" in [kernel.rule for kernel in artifact.kernels()]


@pytest.mark.parametrize(
    ("queries", "keys", "depth", "width"),
    [(1, 1, 16, 16), (1, 13, 32, 8), (3, 130, 24, 40), (1, 515, 64, 64), (5, 64, 16, 4), (2, 1000, 4, 48)],
)
def test_lengths_and_head_sizes(queries: int, keys: int, depth: int, width: int) -> None:
    q, k = torch.randn(1, 2, queries, depth), torch.randn(1, 2, keys, depth)
    assert is_split(compiled(q, k, torch.randn(1, 2, keys, width)))


@pytest.mark.parametrize("groups", [1, 3, 5])
def test_heads_of_a_group_share_their_keys(groups: int) -> None:
    q, k = torch.randn(2, 2 * groups, 1, 32), torch.randn(2, 2, 300, 32)
    assert is_split(compiled(q, k, k.flip(2), enable_gqa=True))


@pytest.mark.parametrize("shape", [(1, 300), (2, 1, 1, 300), (1, 6, 1, 300), (2, 6, 1, 1)])
def test_added_masks(shape: tuple[int, ...]) -> None:
    q, k = torch.randn(2, 6, 1, 16), torch.randn(2, 3, 300, 16)
    assert is_split(compiled(q, k, k.flip(2), torch.randn(shape), enable_gqa=True))


def test_parts_in_which_no_key_is_seen_do_not_count() -> None:
    """Logits far below zero: a part that counted with a peak of zero would outweigh all others."""
    q, k = 9 * torch.ones(1, 1, 1, 16), -9 * torch.ones(1, 1, 400, 16)
    seen = torch.zeros(1, 1, 1, 400, dtype=torch.bool)
    seen[..., 130:170] = True
    artifact = compiled(q, k, torch.randn(1, 1, 400, 16), seen)
    assert is_split(artifact)


def test_a_row_that_sees_no_key_is_zero() -> None:
    q, k = torch.randn(1, 1, 2, 16), torch.randn(1, 1, 200, 16)
    mask = torch.ones(2, 200, dtype=torch.bool)
    mask[1] = False
    result = compiled(q, k, k.flip(2), mask)(q, k, k.flip(2), mask)[0]
    assert torch.all(result[:, :, 1] == 0) and torch.all(result[:, :, 0] != 0)


@pytest.mark.parametrize("causal", [False, True])
def test_keys_whose_number_is_not_known(causal: bool) -> None:
    q, k = torch.randn(2, 6, 1, 16), torch.randn(2, 3, 40, 16)
    dynamic = ({0: "batch"}, *[{0: "batch", 2: "keys"}] * 2)
    artifact = compiled(q, k, k.flip(2), dynamic=dynamic, enable_gqa=True, is_causal=causal)
    assert is_split(artifact)
    for batch, keys in [(1, 3), (3, 129), (2, 700)]:
        q, k = torch.randn(batch, 6, 1, 16), torch.randn(batch, 3, keys, 16)
        program = graphopt.capture(Attention(enable_gqa=True, is_causal=causal).eval(), (q, k, k.flip(2)))
        verify(program, artifact, runs=4).raise_if_failed()


@pytest.mark.parametrize("shape", [(6, 16), (1, 7)])
def test_what_is_not_split(shape: tuple[int, int]) -> None:
    """More queries, and heads that fill no part of a register."""
    queries, depth = shape
    assert not is_split(compiled(torch.randn(1, 2, queries, depth), *torch.randn(2, 1, 2, 40, depth)))


def test_lost_keys_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    original = split_attention._scores

    def late(*arguments: Any) -> None:
        *before, start, seen, lanes = arguments
        original(*before, start + 1, seen, lanes)

    monkeypatch.setattr(split_attention, "_scores", late)
    with pytest.raises(VerificationError):
        compiled(torch.randn(1, 1, 1, 16), *torch.randn(2, 1, 1, 300, 16))


def test_parts_that_count_alike_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    original = split_attention._merged

    def careless(means: Any, peaks: Any, sums: Any, *rest: Any) -> None:
        original(means, sums, sums, *rest)

    monkeypatch.setattr(split_attention, "_merged", careless)
    with pytest.raises(VerificationError):
        compiled(torch.randn(1, 1, 1, 16), *torch.randn(2, 1, 1, 300, 16))
