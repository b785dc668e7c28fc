"""``ai.onnx.ml``: decision trees and what stands around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
import torch

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.registry import op

_DOMAIN = "ai.onnx.ml"
_COMPARISONS = ("le", "lt", "ge", "gt", "eq", "ne", "member")
"""What a node of mode 0, 1, … asks of its feature; the true branch is taken where it holds."""


@op("ArrayFeatureExtractor", domain=_DOMAIN)
def array_feature_extractor(call: Call, x: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Columns of X [..., C]; a single row where X has one axis."""
    x = x.unsqueeze(0) if x.ndim == 1 else x
    return x.index_select(x.ndim - 1, columns.to(torch.int64).reshape(-1))


@op("Binarizer", domain=_DOMAIN)
def binarizer(call: Call, x: torch.Tensor) -> torch.Tensor:
    return (x > call.float("threshold", 0.0)).to(x.dtype)


@dataclass(frozen=True)
class _Trees:
    """All nodes and then all leaves of the trees, in one table; a leaf leads to itself."""

    feature: np.ndarray
    split: np.ndarray
    mode: np.ndarray
    on_true: np.ndarray
    on_false: np.ndarray
    missing_true: np.ndarray
    members: np.ndarray
    roots: np.ndarray
    depth: int


def _values(tensor: ir.TensorProtocol | None, default: Any) -> np.ndarray:
    return np.asarray(default if tensor is None else tensor.numpy())


def _read(call: Call, dtype: np.dtype[Any]) -> _Trees:
    modes = _values(call.tensor("nodes_modes"), []).astype(np.int64)
    inner = len(modes)
    if np.any(modes >= len(_COMPARISONS)):
        raise call.error(f"has a node of the unknown mode {modes.max()}")
    leaves = len(call.ints("leaf_targetids"))
    total = inner + leaves
    to_itself = np.arange(total)
    branches = []
    for side in ("true", "false"):
        target = np.array(call.ints(f"nodes_{side}nodeids"), dtype=np.int64)
        is_leaf = np.array(call.ints(f"nodes_{side}leafs"), dtype=bool)
        branch = to_itself.copy()
        branch[:inner] = np.where(is_leaf, target + inner, target)
        branches.append(branch)
    if max(b.max(initial=0) for b in branches) >= total:
        raise call.error("has a branch to a node that does not exist")
    roots = np.array(call.ints("tree_roots"), dtype=np.int64)
    # A tree of one leaf has a node that leads to it on both sides.
    feature, split = np.zeros(total, np.int64), np.zeros(total, dtype)
    feature[:inner] = call.ints("nodes_featureids")
    split[:inner] = _values(call.tensor("nodes_splits"), np.zeros(inner))
    missing = np.zeros(total, bool)
    missing[:inner] = call.ints("nodes_missing_value_tracks_true", [0] * inner)
    padded = np.concatenate([modes, np.zeros(leaves, np.int64)])
    depth = _depth(call, branches, roots, inner)
    members = _members(call, padded, dtype)
    return _Trees(feature, split, padded, branches[0], branches[1], missing, members, roots, depth)


def _depth(call: Call, branches: list[np.ndarray], roots: np.ndarray, inner: int) -> int:
    """Steps after which every path has reached a leaf."""
    level, depth = roots, 0
    while np.any(level < inner):
        level = np.unique(np.concatenate([b[level] for b in branches]))
        depth += 1
        if depth > inner:
            raise call.error("has a tree with a cycle")
    return depth


def _members(call: Call, modes: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """The set of each member node as a row padded with NaN, which equals nothing: [nodes, longest]."""
    values = _values(call.tensor("membership_values"), []).astype(dtype)
    ends = np.flatnonzero(np.isnan(values))
    sets = [s[~np.isnan(s)] for s in np.split(values, ends)][: len(ends)]
    nodes = np.flatnonzero(modes == _COMPARISONS.index("member"))
    if len(sets) != len(nodes):
        raise call.error(f"has {len(sets)} sets for {len(nodes)} nodes that ask for membership")
    table = np.full((len(modes), max((len(s) for s in sets), default=0)), np.nan, dtype)
    for node, members in zip(nodes, sets, strict=True):
        table[node, : len(members)] = members
    return table


@op("TreeEnsemble", since=5, domain=_DOMAIN, ignores=("nodes_hitrates",))
def tree_ensemble(call: Call, x: torch.Tensor) -> torch.Tensor:
    """X [N, features] -> [N, targets]: all rows go down all trees at once, one level a step."""
    if call.int("post_transform", 0) != 0:
        raise call.error("transforms its scores (post_transform), which is not supported")
    weights = _values(call.tensor("leaf_weights"), [])
    trees = _read(call, weights.dtype)
    split, feature = call.array(trees.split), call.array(trees.feature)
    on_true, on_false = call.array(trees.on_true), call.array(trees.on_false)
    place = call.array(trees.roots).reshape(1, -1).expand(x.shape[0], len(trees.roots))
    for _ in range(trees.depth):
        value = x.gather(1, feature[place])
        holds = _holds(call, trees, place, value, split[place])
        place = torch.where(holds, on_true[place], on_false[place])
    inner = len(trees.feature) - len(weights)
    leaf = place - inner
    scores = call.array(weights)[leaf].to(x.dtype)
    target = call.array(np.array(call.ints("leaf_targetids"), dtype=np.int64))[leaf]
    return _aggregate(call, scores, target, len(trees.roots))


def _holds(
    call: Call, trees: _Trees, place: torch.Tensor, value: torch.Tensor, split: torch.Tensor
) -> torch.Tensor:
    result = torch.zeros_like(place, dtype=torch.bool)
    modes = call.array(trees.mode)[place] if len(set(trees.mode.tolist())) > 1 else None
    for mode in sorted(set(trees.mode.tolist())):
        name = _COMPARISONS[mode]
        if name == "member":
            members = call.array(trees.members)[place]
            answer = (value.unsqueeze(-1) == members).any(-1)
        else:
            answer = getattr(torch, name)(value, split)
        result = answer if modes is None else torch.where(modes == mode, answer, result)
    if trees.missing_true.any():
        result = result | (torch.isnan(value) & call.array(trees.missing_true)[place])
    return result


def _aggregate(call: Call, scores: torch.Tensor, target: torch.Tensor, trees: int) -> torch.Tensor:
    """Scores and targets [N, trees] -> [N, targets]: average, sum, smallest or largest."""
    function = call.int("aggregate_function", 1)
    if function not in (0, 1, 2, 3):
        raise call.error(f"has the unknown aggregate_function {function}")
    empty = scores.new_zeros([scores.shape[0], call.int("n_targets")])
    if function in (0, 1):
        total = empty.scatter_add(1, target, scores)
        return total / trees if function == 0 else total
    reduce = "amin" if function == 2 else "amax"
    return empty.scatter_reduce(1, target, scores, reduce, include_self=False)
