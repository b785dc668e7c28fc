"""Inputs to verify with: drawn from a signature, or the user's own."""

from __future__ import annotations

import itertools
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphopt.errors import InputError
from graphopt.ir.inputs import check_inputs
from graphopt.ir.program import Program
from graphopt.ir.signature import DimRange, Signature, TensorSpec, dtype_name
from graphopt.verification.ranges import ValueRange, hint_of, infer_ranges

KINDS = ("normal", "wide", "uniform", "constant", "tiny", "large", "zeros")
"""How floating-point inputs are drawn; draws take them in this order.

normal    standard normal.
wide      normal, each element scaled by 2^-4 … 2^4: reaches both ends of a clamp at 6.
uniform   [0, 1), like an image: the mean is not zero.
constant  0.5 everywhere.
tiny      normal * 2^-12.
large     normal * 2^6.
zeros     zeros.
"""


@dataclass(frozen=True)
class Draw:
    """One set of inputs and how to get it again; iterates over its tensors, as ``program(*draw)``.

    Attributes:
        tensors: flat inputs, in the signature's order.
        source: a kind of :data:`KINDS`, or where the user's data comes from.
        seed: of the generator; None for the user's data.
        sizes: sizes of the symbolic dimensions.
    """

    tensors: tuple[Tensor, ...]
    source: str
    seed: int | None
    sizes: Mapping[str, int] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def __getitem__(self, index: int) -> Tensor:
        return self.tensors[index]

    @property
    def shapes(self) -> list[list[int]]:
        return [list(t.shape) for t in self.tensors]

    def __str__(self) -> str:
        seed = f", seed {self.seed}" if self.seed is not None else ""
        sizes = "".join(f", {n}={s}" for n, s in self.sizes.items())
        return f"{self.source}{seed}{sizes}"


def draw_inputs(
    program: Program,
    *,
    seed: int = 0,
    kind: str = "normal",
    sizes: Mapping[str, int] | None = None,
    scale: float = 1.0,
) -> Draw:
    """Draws one set of inputs.

    Args:
        program: signature, and graph that says which integers are valid.
        seed: equal seeds give equal inputs.
        kind: one of :data:`KINDS`, for the floating-point inputs.
        sizes: of the symbolic dimensions; default: the first of :func:`size_assignments`.
        scale: factor on the floating-point inputs.

    Raises:
        InputError: the sizes do not fit the signature.
    """
    if kind not in KINDS:
        raise InputError(f"no way of drawing inputs is named {kind!r}", hint=f"one of {', '.join(KINDS)}")
    if sizes is None:
        sizes = next(size_assignments(program))
    generator = torch.Generator().manual_seed(seed)
    ranges = infer_ranges(program)
    tensors = []
    for spec in program.signature.inputs:
        shape = program.signature.resolve(spec.shape, sizes)
        if spec.dtype.is_floating_point or spec.dtype.is_complex:
            tensors.append((_draw_float(shape, kind, generator, spec.dtype) * scale).to(spec.dtype))
        else:
            tensors.append(_draw_integer(shape, spec, ranges[spec.name], kind, generator))
    check_inputs(program.signature, tensors)
    return Draw(tuple(tensors), kind, seed, dict(sizes))


def _draw_float(shape: tuple[int, ...], kind: str, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    drawn = torch.complex128 if dtype.is_complex else torch.float64
    if kind == "zeros":
        return torch.zeros(shape, dtype=drawn)
    if kind == "constant":
        return torch.full(shape, 0.5, dtype=drawn)
    if kind == "uniform":
        return torch.rand(shape, generator=generator, dtype=drawn)
    values = torch.randn(shape, generator=generator, dtype=drawn)
    if kind == "wide":
        return values * torch.exp2(torch.randint(-4, 5, shape, generator=generator).double())
    return values * {"normal": 1.0, "tiny": 2.0**-12, "large": 2.0**6}[kind]


def _draw_integer(
    shape: tuple[int, ...], spec: TensorSpec, values: ValueRange, kind: str, generator: torch.Generator
) -> Tensor:
    if values.high <= values.low:
        raise InputError(f"no value is valid for input {spec.name!r} in all the places that index with it")
    last = shape[-1] if shape else 1
    if values.mask:
        if kind in ("normal", "constant"):
            return torch.ones(shape, dtype=spec.dtype)
        # Padding on the right, of another length in each row; the first element always counts.
        lengths = torch.randint(1, last + 1, (*shape[:-1], 1), generator=generator)
        mask = (torch.arange(last) < lengths).to(spec.dtype)
        return mask if shape else torch.ones((), dtype=spec.dtype)
    if values.consecutive:
        room = max(1, values.high - values.low - last + 1)
        start = int(torch.randint(0, room, (), generator=generator)) + values.low
        row = (torch.arange(last) + start).clamp(max=values.high - 1)
        return row.expand(shape).to(spec.dtype).clone() if shape else torch.tensor(start, dtype=spec.dtype)
    return torch.randint(values.low, values.high, shape, generator=generator).to(spec.dtype)


def size_assignments(program: Program) -> Iterator[dict[str, int]]:
    """Sizes for the symbolic dimensions, without end: the captured ones first, then others in range.

    Different dimensions get different sizes wherever their ranges allow it, so that two mixed-up
    dimensions show.
    """
    hints = _captured_sizes(program)
    dims = program.signature.dims
    for step in itertools.count():
        sizes: dict[str, int] = {}
        for position, (name, valid) in enumerate(dims.items()):
            start = hints.get(name) or max(valid.min, 2 + position)
            offset = ((step + 1) // 2) * (1 if step % 2 else -1) * (1 + position % 3)
            sizes[name] = _nearest(
                valid, start + offset * valid.multiple_of, set(sizes.values()) if step else set()
            )
        yield sizes


def _captured_sizes(program: Program) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for spec, node in zip(program.signature.inputs, program.input_nodes, strict=True):
        for dim, value in zip(spec.shape, node.meta["val"].shape, strict=True):
            hint = hint_of(value)
            if isinstance(dim, str) and dim in program.signature.dims and hint is not None:
                sizes.setdefault(dim, hint)
    return {n: s for n, s in sizes.items() if s in program.signature.dims[n]}


def _nearest(valid: DimRange, wanted: int, taken: set[int]) -> int:
    """The valid size closest to ``wanted`` from above (from below at the upper end), not yet taken."""
    step = max(1, valid.multiple_of)
    smallest = -(-max(valid.min, 1) // step) * step
    size = max(smallest, -(-wanted // step) * step)
    if valid.max is not None:
        size = min(size, valid.max // step * step)
    other = size
    while other in taken and other + step in valid:
        other += step
    return other if other not in taken else size


# -- the user's data -----------------------------------------------------------------------------

Batch = Sequence[Any] | Mapping[str, Any]


def load_inputs(data: str | os.PathLike[str] | Batch | Sequence[Batch], signature: Signature) -> list[Draw]:
    """The user's data as checked inputs.

    Args:
        data: a ``.npz`` file (arrays by input name), a ``.npy`` file (programs with one input), a
            folder of them, one batch (a sequence of arrays in the signature's order, or a mapping
            by name), or a sequence of batches.
        signature: what the program expects.

    Returns:
        One :class:`Draw` a batch.  Arrays of another width of the same kind (NumPy's float64 for a
        float32 input) are converted.

    Raises:
        InputError: a file cannot be read, or a batch does not fit the signature.
    """
    if isinstance(data, str | os.PathLike):
        return _load_files(Path(data), signature)
    if isinstance(data, Mapping):
        return [_checked(data, signature, "inputs")]
    batches = list(data)
    if not batches:
        raise InputError("the list of inputs is empty", code="GO-3010")
    if all(isinstance(b, Tensor | np.ndarray) for b in batches) and len(batches) == len(signature.inputs):
        return [_checked(batches, signature, "inputs")]
    return [
        _checked([b] if isinstance(b, Tensor | np.ndarray) else b, signature, f"batch {i}")
        for i, b in enumerate(batches)
    ]


def _load_files(path: Path, signature: Signature) -> list[Draw]:
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix in (".npz", ".npy"))
        if not files:
            raise InputError(f"no .npz or .npy file in {path}", code="GO-3001")
    elif path.is_file():
        files = [path]
    else:
        raise InputError(f"no such file: {path}", code="GO-3001")
    draws = []
    for file in files:
        try:
            loaded = np.load(file, allow_pickle=False)
            batch: Batch = [loaded] if file.suffix == ".npy" else {n: loaded[n] for n in loaded.files}
        except (ValueError, OSError, zipfile.BadZipFile) as error:
            raise InputError(f"{file} is not a NumPy file: {error}", code="GO-3001") from error
        draws.append(_checked(batch, signature, file.name))
    return draws


def _checked(batch: Batch, signature: Signature, source: str) -> Draw:
    names = [s.name for s in signature.inputs]
    if isinstance(batch, Mapping):
        missing = [n for n in names if n not in batch]
        unknown = [n for n in batch if n not in names]
        if missing or unknown:
            parts = [f"lacks {', '.join(missing)}"] * bool(missing) + [
                f"has unknown {', '.join(unknown)}"
            ] * bool(unknown)
            raise InputError(
                f"{source} {' and '.join(parts)}", code="GO-3010", hint=f"the inputs are {', '.join(names)}"
            )
        values = [batch[n] for n in names]
    else:
        values = list(batch)
    tensors = [_as_tensor(v, s) for v, s in zip(values, signature.inputs, strict=False)]
    tensors += values[len(tensors) :]
    sizes = check_inputs(signature, tensors)
    return Draw(tuple(tensors), source, None, sizes)


def _as_tensor(value: Any, spec: TensorSpec) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = torch.from_numpy(np.ascontiguousarray(value))
    if isinstance(value, bool | int | float):
        value = torch.tensor(value)
    if not isinstance(value, Tensor) or value.dtype == spec.dtype:
        return value
    if value.dtype.is_floating_point == spec.dtype.is_floating_point and torch.bool not in (
        value.dtype,
        spec.dtype,
    ):
        converted = value.to(spec.dtype)
        if not spec.dtype.is_floating_point and not torch.equal(converted.to(value.dtype), value):
            raise InputError(
                f"input {spec.name!r} has values that {dtype_name(spec.dtype)} cannot hold", code="GO-3010"
            )
        return converted
    return value
