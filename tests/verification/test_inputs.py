"""Drawn inputs fit the signature and the graph; the user's data is checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from graphopt.errors import InputError
from graphopt.frontends.torch_module import capture_torch
from graphopt.ir.program import Program
from graphopt.verification import draw_inputs, load_inputs
from graphopt.verification.inputs import KINDS, size_assignments
from graphopt.verification.ranges import infer_ranges


class Text(nn.Module):
    """Token ids into an embedding, an attention mask, position ids with an offset, a cache slot."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(11, 8), nn.Embedding(10, 8)

    def forward(self, ids: Tensor, mask: Tensor, positions: Tensor, slot: Tensor, x: Tensor) -> Tensor:
        y = self.tokens(ids.clone()) + self.positions(positions + 2)
        y = y + (1.0 - mask[:, :, None].float()) * torch.finfo(torch.float32).min
        cache = torch.zeros(7, 8).index_copy(0, slot, x)
        return y.softmax(-1) + cache.sum(0)


@pytest.fixture(scope="module")
def text() -> Program:
    seq = {1: torch.export.Dim("seq", min=2, max=8)}
    args = (
        torch.zeros(2, 5, dtype=torch.int64),
        torch.ones(2, 5, dtype=torch.int64),
        torch.arange(5)[None],
        torch.arange(3),
        torch.randn(3, 8),
    )
    return capture_torch(Text().eval(), args, dynamic_shapes=(seq, seq, seq, None, None))


def test_ranges_come_from_the_graph(text: Program) -> None:
    ranges = infer_ranges(text)
    assert (ranges["ids"].low, ranges["ids"].high) == (0, 11)
    assert ranges["mask"].mask
    assert (ranges["positions"].low, ranges["positions"].high) == (0, 8)
    assert (ranges["slot"].high, ranges["slot"].consecutive) == (7, True)
    assert "x" not in ranges


@pytest.mark.parametrize("kind", KINDS)
def test_every_draw_runs(text: Program, kind: str) -> None:
    for seed in range(5):
        draw = draw_inputs(text, seed=seed, kind=kind)
        (y,) = text(*draw)
        assert bool(y.isfinite().all())
        mask = draw[1]
        assert set(mask.unique().tolist()) <= {0, 1} and bool((mask[:, 0] == 1).all())
        assert len(set(draw[3].tolist())) == 3


def test_draws_repeat_with_their_seed(text: Program) -> None:
    a, b, c = (draw_inputs(text, seed=s, kind="uniform") for s in (4, 4, 5))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert not torch.equal(a[0], c[0])


def test_size_assignments_stay_in_range_and_differ(text: Program) -> None:
    found = [s["seq"] for s, _ in zip(size_assignments(text), range(6), strict=False)]
    assert found[0] == 5 and len(set(found)) >= 4 and all(2 <= s <= 8 for s in found)


def test_unknown_kind(text: Program) -> None:
    with pytest.raises(InputError, match="sideways"):
        draw_inputs(text, kind="sideways")


# -- the user's data -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair() -> Program:
    class Pair(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a[b]

    return capture_torch(Pair().eval(), (torch.randn(4, 3), torch.tensor([0, 1])))


A, B = np.random.default_rng(0).normal(size=(4, 3)), np.array([0, 3], dtype=np.int32)


def test_data_in_every_form(pair: Program, tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", a=A, b=B)
    np.savez(tmp_path / "two.npz", a=A + 1, b=B)
    forms = [
        (tmp_path / "one.npz", 1),
        (tmp_path, 2),
        ([A, B], 1),
        ({"a": A, "b": B}, 1),
        ([[A, B], [A, B], {"b": B, "a": A}], 3),
        ((torch.tensor(A).float(), torch.tensor(B).long()), 1),
    ]
    for data, batches in forms:
        draws = load_inputs(data, pair.signature)
        assert len(draws) == batches
        for draw in draws:
            assert [t.dtype for t in draw] == [torch.float32, torch.int64]
            assert draw.seed is None
        assert torch.equal(draws[0][0], torch.tensor(A).float())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "empty"),
        ([A], "2 inputs"),
        ({"a": A}, "lacks b"),
        ({"a": A, "b": B, "c": B}, "unknown c"),
        ([A, B.astype(np.float32)], "'b' must be int64"),
        ([A.T, B], "'a' has shape"),
    ],
)
def test_data_that_does_not_fit(pair: Program, data: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_inputs(data, pair.signature)  # type: ignore[arg-type]


def test_files_that_cannot_be_read(pair: Program, tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(b"not a zip")
    for path in (tmp_path / "bad.npz", tmp_path / "missing.npz"):
        with pytest.raises(InputError) as caught:
            load_inputs(path, pair.signature)
        assert caught.value.code == "GO-3001"


def test_an_index_that_counts_from_the_end_limits_nothing_by_its_wrapped_form() -> None:
    class Wraps(nn.Module):
        def forward(self, ids: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
            return table.index_select(0, torch.where(ids < 0, ids + table.shape[0], ids))

    program = capture_torch(Wraps().eval(), (torch.arange(3), torch.randn(11, 2)))
    found = infer_ranges(program)["ids"]
    assert (found.low, found.high) == (0, 11)
