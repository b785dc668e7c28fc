"""A built model: what to run, on which inputs, and which of their axes may vary."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from graphopt.ir.program import Program

DEFAULT_RANGE = (1, 4096)


@dataclass(frozen=True)
class Model:
    """A model of the zoo, either an ``nn.Module`` (``module``) or an ONNX file (``path``).

    ``inputs`` are flat tensors and the outputs a flat tuple of tensors.  ``axes`` has one mapping an
    input, from axis to dimension name: those axes vary, all inputs that share a name together.  The
    sizes in ``inputs`` are distinct where torch.export would otherwise take two dimensions for one.
    ``ranges`` bounds dimensions (inclusive); the default is 1 to 4096.  ``multiples`` says that a
    dimension varies in steps: ``{"height": 32}``.
    """

    inputs: tuple[torch.Tensor, ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    axes: tuple[Mapping[int, str], ...]
    module: nn.Module | None = None
    path: Path | None = None
    ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    multiples: Mapping[str, int] = field(default_factory=dict)
    name: str = ""
    size: str = ""

    def __post_init__(self) -> None:
        if (self.module is None) == (self.path is None):
            raise ValueError("a model is either a module or a file")
        if not len(self.inputs) == len(self.input_names) == len(self.axes):
            raise ValueError(
                f"{len(self.inputs)} inputs, {len(self.input_names)} names and {len(self.axes)} axes"
            )

    def named(self, name: str, size: str) -> Model:
        """The same model under the name that the registry gives it."""
        return replace(self, name=name, size=size)

    def dynamic_shapes(self) -> tuple[dict[int, torch.export.Dim], ...]:
        """The varying axes and their ranges, as ``graphopt.capture`` takes them: one mapping an input."""
        dims = {
            name: torch.export.Dim(name, min=self.range(name)[0], max=self.range(name)[1])
            for axes in self.axes
            for name in axes.values()
        }
        return tuple({axis: dims[name] for axis, name in axes.items()} for axes in self.axes)

    def range(self, dim: str) -> tuple[int, int]:
        """Smallest and largest size of a dimension, inclusive."""
        return self.ranges.get(dim, DEFAULT_RANGE)

    def capture_inputs(self) -> tuple[torch.Tensor, ...]:
        """Inputs to capture with: no varying axis has size 1, and different dimensions differ.

        torch.export fixes an axis whose example has size 1, and takes two axes of equal size for
        the same dimension.
        """
        sizes: dict[str, int] = {}
        for tensor, axes in zip(self.inputs, self.axes, strict=True):
            for axis, name in axes.items():
                sizes.setdefault(name, tensor.shape[axis])
        taken: set[int] = set()
        for name, size in sizes.items():
            step = self.multiples.get(name, 1)
            while size == 1 or size in taken:
                size += step
            taken.add(size)
            sizes[name] = size
        return self.resized(sizes)

    def dim_names(self) -> dict[tuple[int, int], str]:
        """(input index, axis) -> dimension name, for every varying axis."""
        return {(i, axis): name for i, axes in enumerate(self.axes) for axis, name in axes.items()}

    def capture(self, *, dynamic: bool = True) -> Program:
        """The model as a ``Program``; ``dynamic=False`` fixes every axis at the example's size."""
        if self.path is not None:
            return self._import(dynamic)
        from graphopt.frontends.torch_module import capture_torch

        assert self.module is not None
        if not dynamic:
            return capture_torch(self.module, self.inputs, **self._names())
        return capture_torch(
            self.module, self.capture_inputs(), dynamic_shapes=self.dynamic_shapes(), **self._names()
        )

    def _import(self, dynamic: bool) -> Program:
        from graphopt.frontends.onnx import import_onnx

        assert self.path is not None
        program = import_onnx(self.path)
        if dynamic:
            return program
        sizes: dict[str, int] = {}
        for spec, tensor in zip(program.signature.inputs, self.inputs, strict=True):
            for dim, size in zip(spec.shape, tensor.shape, strict=True):
                if dim in program.signature.dims:
                    sizes[str(dim)] = size
        return import_onnx(self.path, dims=sizes)

    def _names(self) -> dict[str, Any]:
        return {"input_names": self.input_names, "output_names": self.output_names}

    def resized(self, sizes: Mapping[str, int], *, seed: int = 0) -> tuple[torch.Tensor, ...]:
        """Fresh inputs in which the named dimensions have other sizes.

        Floating-point inputs are normal; integer ones are drawn from the range of the example's values.
        """
        generator = torch.Generator().manual_seed(seed)
        fresh = []
        for example, axes in zip(self.inputs, self.axes, strict=True):
            shape = [sizes.get(axes.get(axis, ""), size) for axis, size in enumerate(example.shape)]
            if example.dtype.is_floating_point:
                fresh.append(torch.randn(shape, generator=generator, dtype=example.dtype))
            else:
                low, high = int(example.min()), int(example.max())
                fresh.append(torch.randint(low, high + 1, shape, generator=generator, dtype=example.dtype))
        return tuple(fresh)

    def reference(self) -> Callable[..., tuple[torch.Tensor, ...]]:
        """A callable over the flat inputs: eager torch, or onnxruntime for a file (one thread)."""
        if self.module is not None:
            module = self.module

            def eager(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
                with torch.no_grad():
                    outputs = module(*inputs)
                return outputs if isinstance(outputs, tuple) else (outputs,)

            return eager

        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])
        names: Sequence[str] = [i.name for i in session.get_inputs()]

        def onnx_reference(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
            feed = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
            return tuple(torch.from_numpy(y) for y in session.run(None, feed))

        return onnx_reference
