"""``Artifact``: a compiled program, as a callable and as one file."""

from __future__ import annotations

import shutil
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from graphopt.codegen.gpu_report.kernels import GpuKernel
from graphopt.codegen.package import Description, check_writable, damaged, read_package
from graphopt.codegen.strassen import STRASSEN_RULE
from graphopt.codegen.targets import Target
from graphopt.codegen.toom_cook import WINOGRAD_RULE
from graphopt.errors import InputError, TargetError, did_you_mean
from graphopt.files import copy_atomically
from graphopt.ir.inputs import check_inputs
from graphopt.ir.signature import Signature

# What LLVM assumes of every buffer: kernels use aligned vector loads (TVM's kAllocAlignment).
_ALIGNMENT = 64

_NUMPY = (np.ndarray, np.generic)


@dataclass(frozen=True)
class Kernel:
    """One compiled function: its name, and the schedule rule that shaped it."""

    name: str
    rule: str


class Artifact:
    """A compiled program.

    Call it with one tensor an input, in order or by name.  Torch tensors in, torch tensors out;
    if every input is a numpy array, numpy arrays out.  Calls are serialised by a lock.

    Args:
        path: the library on disk.
        description: what it says about itself.
        owned: a folder to remove with this object.

    Attributes:
        path: the library on disk (temporary until :meth:`save`).
        metadata: what the file says about itself, as JSON values.
        signature: names, dtypes and shapes of inputs and outputs.
        target: what it was compiled for.
    """

    def __init__(self, path: Path, description: Description, *, owned: Path | None = None) -> None:
        self.path = path
        self.metadata: Mapping[str, Any] = description.metadata
        self.signature = Signature.from_dict(description.metadata["signature"])
        self.target = Target.from_dict(description.metadata["target"])
        self._constant_outputs = frozenset(description.metadata["constant_outputs"])
        self._description = description
        if owned is not None:
            weakref.finalize(self, shutil.rmtree, owned, ignore_errors=True)
        self._lock = threading.Lock()
        self._main: Callable[[list[torch.Tensor]], list[torch.Tensor]] | None = None

    def __repr__(self) -> str:
        return f"<Artifact {self.signature} target={self.target.name} kernels={len(self.kernels())}>"

    def kernels(self) -> list[Kernel]:
        """The compiled functions, by name; for CUDA targets, the kernels that the binaries hold."""
        return [Kernel(k["name"], k["rule"]) for k in self.metadata["kernels"]]

    def tuned(self) -> Mapping[str, Mapping[str, int]]:
        """What tuning decided, by kernel; other kernels have the default schedule."""
        found: Mapping[str, Mapping[str, int]] = self.metadata.get("tuning", {}).get("tuned", {})
        return found

    def winograd(self) -> list[str]:
        """Names of the kernels that compute a convolution by Winograd's method."""
        return [k.name for k in self.kernels() if k.rule == WINOGRAD_RULE]

    def strassen(self) -> list[str]:
        """Names of the kernels that compute a product by Strassen's algorithm."""
        return [k.name for k in self.kernels() if k.rule == STRASSEN_RULE]

    def warnings(self) -> list[str]:
        """Kernels whose tuned schedule did not fit them, so that they run the default one."""
        refused: Mapping[str, str] = self.metadata.get("tuning", {}).get("refused", {})
        return [
            f"kernel {name} has a tuned schedule that does not fit it and runs the default one: {reason}"
            for name, reason in refused.items()
        ]

    def gpu_kernels(self) -> list[GpuKernel]:
        """The kernels of a CUDA target with registers, shared memory, work and estimates; else none.

        Raises:
            InputError: GO-3011, the artifact is of an older graphopt, which did not write them down.
        """
        if self.target.kind != "cuda":
            return []
        try:
            return [GpuKernel.from_dict(k) for k in self.metadata["kernels"]]
        except (KeyError, TypeError) as error:
            raise damaged(self.path, f"its list of kernels lacks {error}") from None

    def source(self) -> str:
        """Scheduled TensorIR of the kernels; for CUDA targets, CUDA C++."""
        return self._description.source

    def cubin(self, architecture: str) -> bytes:
        """The GPU binary for an architecture such as ``"sm_90"``.

        Raises:
            TargetError: GO-6000, the artifact has no binary for it.
        """
        cubins = self._description.cubins
        if architecture not in cubins:
            have = ", ".join(sorted(cubins)) or "none"
            raise TargetError(f"the artifact has no binary for {architecture} (it has: {have})")
        return cubins[architecture]

    def save(self, path: str | Path) -> None:
        """Write the artifact as one file; a file that is already there is replaced in one step.

        Raises:
            InputError: GO-3001, the file cannot be written; GO-3002, its suffix is not the artifact's:
                ``.so``, or ``.tar`` where no linker for the target is installed.
            TargetError: GO-6001, the target's linker is missing and ``path`` is a ``.so``.
        """
        path = Path(path)
        check_writable(path, self.path.suffix, self.target)
        copy_atomically(self.path, path, 0o755)

    def __call__(self, *inputs: Any, **named: Any) -> tuple[Any, ...]:
        """Run the program.

        Raises:
            InputError: GO-3010, naming the input, what it must be and what it is.
            TargetError: GO-6002, the code cannot run on this machine.
        """
        values = self._in_order(inputs, named)
        as_numpy = bool(values) and all(isinstance(v, _NUMPY) for v in values)
        tensors = [_to_tensor(v, spec.name) for v, spec in zip(values, self.signature.inputs, strict=False)]
        tensors += values[len(tensors) :]
        check_inputs(self.signature, tensors)
        arguments = [_aligned(t) for t in tensors]
        with self._lock:
            results = self._load()(arguments)
        # A program may return an input, a weight or a view of one; the caller gets memory of its own.
        addresses = {t.data_ptr() for t in arguments if t.numel()}
        constant = self._constant_outputs
        outputs = [
            r.clone() if i in constant or r.data_ptr() in addresses else r for i, r in enumerate(results)
        ]
        return tuple(o.numpy() for o in outputs) if as_numpy else tuple(outputs)

    def _in_order(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> list[Any]:
        if not named:
            return list(inputs)
        names = [s.name for s in self.signature.inputs]
        for name in named:
            if name not in names:
                raise InputError(
                    f"the program has no input {name!r}; it takes {', '.join(names)}",
                    code="GO-3010",
                    hint=did_you_mean(name, names),
                )
            if name in names[: len(inputs)]:
                raise InputError(f"input {name!r} was given twice, by position and by name", code="GO-3010")
        missing = [n for n in names[len(inputs) :] if n not in named]
        if missing:
            raise InputError(f"missing input {', '.join(map(repr, missing))}", code="GO-3010")
        return [*inputs, *(named[n] for n in names[len(inputs) :])]

    def _load(self) -> Callable[[list[torch.Tensor]], list[torch.Tensor]]:
        """The virtual machine's ``main``; loads the library on the first call."""
        if self._main is None:
            self.target.require_runnable()
            self._main = _open(self.path, self.target)
        return self._main


def load_artifact(path: str | Path) -> Artifact:
    """Open an artifact.  Nothing of it is executed before it is called.

    Artifacts for other machines open too, to look at; calling them raises.

    Raises:
        InputError: GO-3001, no such file; GO-3011, not an artifact of graphopt, or damaged.
    """
    path = Path(path).resolve()
    description = read_package(path)
    try:
        return Artifact(path, description)
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(path, f"its metadata is not understood ({error!r})") from None


def _to_tensor(value: Any, name: str) -> Any:
    """A torch tensor that shares memory where it can; other things as they are, for the check to name."""
    if isinstance(value, _NUMPY):
        array = np.asarray(value)
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        if not array.flags.writeable or any(s < 0 for s in array.strides):
            array = array.copy()  # torch shares memory only with writable arrays of positive strides
        try:
            return torch.from_numpy(array)
        except TypeError:
            raise InputError(
                f"input {name!r}: numpy dtype {array.dtype} is not supported", code="GO-3010"
            ) from None
    return value


def _aligned(tensor: torch.Tensor) -> torch.Tensor:
    """Plain contiguous CPU memory at an aligned address."""
    if (
        type(tensor) is torch.Tensor
        and tensor.is_cpu
        and tensor.layout is torch.strided
        and tensor.is_contiguous()
        and not (tensor.requires_grad or tensor.is_conj() or tensor.is_neg())
        and tensor.data_ptr() % _ALIGNMENT == 0
    ):
        return tensor  # as nearly always: what follows costs more than some models
    tensor = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    if tensor.data_ptr() % _ALIGNMENT:
        tensor = tensor.clone()
    return tensor


def _open(path: Path, target: Target) -> Callable[[list[torch.Tensor]], list[torch.Tensor]]:
    """Load the library and return its ``main`` on torch tensors in CPU memory."""
    import tvm
    from tvm import relax

    device = tvm.cuda(0) if target.kind == "cuda" else tvm.cpu()
    try:
        main = relax.VirtualMachine(tvm.runtime.load_module(str(path)), device)["main"]
    except Exception as error:  # TVM raises whatever its C++ threw
        raise damaged(path, f"TVM cannot load it ({type(error).__name__})") from error
    if target.kind == "cpu":
        # TVM's calls take torch's tensors and then return such, on the same memory.
        return lambda inputs: list(main(*inputs)) if inputs else [torch.from_dlpack(r) for r in main()]

    def on_gpu(inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        results = main(*(tvm.runtime.from_dlpack(t).copyto(device) for t in inputs))
        return [torch.from_dlpack(r.copyto(tvm.cpu())) for r in results]

    return on_gpu
