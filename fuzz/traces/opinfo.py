"""Calls of torch's own operator tests: ``op_db`` has inputs that work, ``error_inputs`` some that do not."""

from __future__ import annotations

import itertools
import random
import time
import warnings
from collections.abc import Collection, Iterator
from typing import Any

import torch

from graphopt.fuzz.traces.recorder import Recorder

DTYPES = (torch.float32, torch.int64, torch.bool)
"""One of each class of dtypes."""
MAX_SAMPLES = {torch.float32: 48, torch.int64: 12, torch.bool: 8}
"""Samples of an entry, evenly spread.  They are counted, not timed: traces are the same on every machine."""
MAX_GENERATED = 400
"""Samples that are drawn at most; some entries have tens of thousands."""
MAX_SECONDS = 20.0
"""For one entry: a guard against those that would not end, far above what others take."""
MAX_ELEMENTS = 1 << 16

SKIPPED = ("linalg.", "fft.", "sparse.", "special.", "masked.", "signal.")
"""Families that programs of networks do not use; ``masked.`` are Python functions of other operators."""
KEPT = ("linalg.vector_norm", "linalg.norm", "special.expit", "special.log1p", "special.erf")


def entries(only: Collection[str] = ()) -> list[Any]:
    """The operator tests to record, by name.

    Raises:
        ImportError: ``torch.testing``'s tests need the package ``expecttest``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal.common_methods_invocations import op_db
    found = [op for op in op_db if not op.name.startswith(SKIPPED) or op.name in KEPT]
    return sorted((op for op in found if not only or op.name in only), key=lambda op: op.formatted_name)


def record_entry(recorder: Recorder, op: Any, seed: int = 0) -> int:
    """Runs the samples of one operator test under the recorder; returns how many ran."""
    started, ran = time.monotonic(), 0
    for dtype in DTYPES:
        if dtype not in op.supported_dtypes("cpu"):
            continue
        for sample in _samples(op, dtype, seed):
            if time.monotonic() - started > MAX_SECONDS:
                return ran
            ran += _run(recorder, op, sample)
    for sample in _error_samples(op):
        ran += _run(recorder, op, sample)
    return ran


def _samples(op: Any, dtype: torch.dtype, seed: int) -> Iterator[Any]:
    torch.manual_seed(seed)
    random.seed(seed)
    try:
        drawn = list(itertools.islice(op.sample_inputs("cpu", dtype, requires_grad=False), MAX_GENERATED))
    except (RuntimeError, ValueError, TypeError, NotImplementedError, AssertionError, IndexError):
        return  # some entries cannot make inputs of a dtype that they declare
    step = max(1, -(-len(drawn) // MAX_SAMPLES[dtype]))
    yield from drawn[::step]


def _error_samples(op: Any) -> Iterator[Any]:
    """The samples that must fail: at the last call that they make, those before it are valid."""
    if op.error_inputs_func is None:
        return
    try:
        yield from (
            error.sample_input
            for error in itertools.islice(op.error_inputs("cpu"), MAX_SAMPLES[torch.float32])
        )
    except (RuntimeError, ValueError, TypeError, NotImplementedError, AssertionError):
        return


def _run(recorder: Recorder, op: Any, sample: Any) -> bool:
    values = [sample.input, *sample.args, *sample.kwargs.values()]
    if any(isinstance(v, torch.Tensor) and v.numel() > MAX_ELEMENTS for v in values):
        return False
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            with recorder.recording(f"op_db:{op.formatted_name}"):
                op(sample.input, *sample.args, **sample.kwargs)
        except Exception:  # noqa: BLE001 - whatever an operator raises; the call is recorded as invalid
            return False
    return True
