"""Counting n-grams of token numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from graphopt.frontends.onnx.call import Call
from graphopt.frontends.onnx.registry import op


@op("TfIdfVectorizer", since=9)
def tf_idf_vectorizer(call: Call, x: torch.Tensor) -> torch.Tensor:
    """X [C] or [B, C] of token numbers -> [features] or [B, features], float32.

    An n-gram also counts with up to ``max_skip_count`` tokens left out between its members, evenly.
    """
    pool = call.ints("pool_int64s")
    if pool is None:
        raise call.error("looks up strings")
    shortest, longest = call.int("min_gram_length"), call.int("max_gram_length")
    starts = [*call.ints("ngram_counts"), len(pool)]
    features: list[int] = call.ints("ngram_indexes")
    rows = x if x.ndim == 2 else x.reshape(1, -1)
    counts, columns = [], []
    first = 0
    for length, (start, end) in enumerate(zip(starts, starts[1:], strict=False), start=1):
        grams = np.array(pool[start:end], dtype=np.int64).reshape(-1, length)
        own = features[first : first + len(grams)]
        first += len(grams)
        if not shortest <= length <= longest or not own:
            continue
        counts.append(_count(call, rows, grams, call.int("max_skip_count")))
        columns += own
    width = max(features) + 1
    table = torch.zeros([rows.shape[0], width], dtype=torch.int64)
    if counts:
        index = call.array(np.array(columns, dtype=np.int64))
        table = table.index_add(1, index, torch.cat(counts, dim=1))
    return _weighted(call, table).reshape([*x.shape[:-1], width])


def _count(call: Call, rows: torch.Tensor, grams: np.ndarray, skips: int) -> torch.Tensor:
    """How often each gram occurs in each row: rows [B, C], grams [G, n] -> [B, G]."""
    length: int = grams.shape[1]
    total: Any = torch.zeros([rows.shape[0], len(grams)], dtype=torch.int64)
    # Distance makes no difference to a single token.
    for distance in range(1, (skips if length > 1 else 0) + 2):
        places = rows.shape[1] - (length - 1) * distance
        if places <= 0:
            break
        hit: Any = True
        for i in range(length):
            member = rows.narrow(1, i * distance, places).unsqueeze(1)
            wanted = call.array(grams[:, i]).reshape(1, -1, 1)
            hit = (member == wanted) & hit
        total = total + hit.to(torch.int64).sum(2)
    return total


def _weighted(call: Call, table: torch.Tensor) -> torch.Tensor:
    mode = call.str("mode")
    if mode not in ("TF", "IDF", "TFIDF"):
        raise call.error(f"has the mode {mode!r}; TF, IDF and TFIDF are defined")
    weights = call.floats("weights")
    frequency = table.to(torch.float32)
    present = (table > 0).to(torch.float32) if mode == "IDF" else frequency
    if mode == "TF" or not weights:
        return present
    return present * call.array(np.array(weights, dtype=np.float32))
