"""What an artifact says of its GPU kernels: their schedule, what they use, and what a GPU could do with them.

Everything is counted or read while compiling, without a GPU: launches from the code that TVM emits
(``launches.py``), registers from ptxas (``ptxas.py``), work from the functions before they were scheduled
(``work.py``).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from graphopt.codegen.gpu_report.ptxas import KernelResources

if TYPE_CHECKING:
    import tvm

    from graphopt.codegen.gpu_report.launches import Launch
    from graphopt.codegen.gpu_report.roofline import Estimate, Gpu
    from graphopt.codegen.gpu_report.work import Work


@dataclass(frozen=True)
class GpuKernel:
    """One kernel of a CUDA artifact.

    Attributes:
        name: in the binaries.
        rule: the schedule rule that shaped it.
        calls: places in the program that launch it.
        threads: of a block.
        blocks: along x, y and z, as text; symbolic where sizes are.
        dynamic_shared: bytes of shared memory that the launch asks for.
        work: operations and bytes of one launch, with symbolic sizes at ``work.NOMINAL_SIZE``; None for the
            second and later kernels of one function, whose work is counted with the first.
        resources: what ptxas gave it, by architecture; empty where the compiler does not say.
    """

    name: str
    rule: str
    calls: int
    threads: int
    blocks: tuple[str, str, str]
    dynamic_shared: int
    work: Work | None
    resources: Mapping[str, KernelResources]

    @property
    def on_tensor_cores(self) -> bool:
        return self.work is not None and self.work.on_tensor_cores

    @property
    def spills(self) -> list[str]:
        """Architectures on which registers did not suffice."""
        return [a for a, r in sorted(self.resources.items()) if r.spills]

    def shared(self, architecture: str) -> int:
        """Bytes of shared memory of a block, static and dynamic."""
        found = self.resources.get(architecture)
        return self.dynamic_shared + (found.static_shared if found else 0)

    def occupancy(self, gpu: Gpu) -> float | None:
        """Share of a multiprocessor's warps that it can hold; None where ptxas gave no registers for it."""
        from graphopt.codegen.gpu_report.roofline import occupancy

        found = self.resources.get(gpu.architecture)
        if found is None:
            return None
        return occupancy(self.threads, found.registers, self.shared(gpu.architecture), gpu)

    def estimate(self, gpu: Gpu) -> Estimate | None:
        """The least time of one launch; None where its work is counted elsewhere."""
        from graphopt.codegen.gpu_report.roofline import estimate

        return None if self.work is None else estimate(self.work, gpu)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able form, with occupancy and estimate for each GPU that has a binary."""
        from graphopt.codegen.gpu_report.roofline import GPUS

        data = asdict(self)
        data["spills"] = self.spills
        data["gpus"] = {}
        for gpu in GPUS:
            share, least = self.occupancy(gpu), self.estimate(gpu)
            data["gpus"][gpu.name] = {
                "occupancy": None if share is None else round(share, 4),
                "least_us": None if least is None else round(least.seconds * 1e6, 4),
                "bound": None if least is None else least.bound,
            }
        return data

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> GpuKernel:
        """The inverse of :meth:`to_dict` (KeyError or TypeError where it is not)."""
        from graphopt.codegen.gpu_report.work import Work

        return GpuKernel(
            name=data["name"],
            rule=data["rule"],
            calls=data["calls"],
            threads=data["threads"],
            blocks=tuple(data["blocks"]),
            dynamic_shared=data["dynamic_shared"],
            work=None if data["work"] is None else Work(**data["work"]),
            resources={a: KernelResources(**r) for a, r in data["resources"].items()},
        )


def describe_kernels(
    names: Iterable[str],
    rules: Mapping[str, str],
    work: Mapping[str, Work],
    calls: Mapping[str, int],
    launches: Mapping[str, Launch],
    resources: Mapping[str, Mapping[str, KernelResources]],
) -> list[GpuKernel]:
    """The kernels of the binaries, by name.

    Args:
        names: of the kernels.
        rules, work, calls: by function.
        launches: by kernel.
        resources: by architecture and kernel.
    """
    kernels, counted = [], set[str]()
    for name in sorted(names, key=lambda n: (function_of(n), len(n), n)):
        function = function_of(name)
        launch = launches.get(name)
        kernels.append(
            GpuKernel(
                name=name,
                rule=rules.get(function, "runtime"),
                calls=calls.get(function, 0),
                threads=launch.threads[0] * launch.threads[1] * launch.threads[2] if launch else 0,
                blocks=tuple(map(_text, launch.blocks)) if launch else ("?", "?", "?"),  # type: ignore[arg-type]
                dynamic_shared=launch.dynamic_shared if launch else 0,
                work=None if function in counted else work.get(function),
                resources={a: found[name] for a, found in resources.items() if name in found},
            )
        )
        counted.add(function)
    return sorted(kernels, key=lambda k: k.name)


def function_of(kernel: str) -> str:
    """The function that a kernel was split from: TVM appends ``_kernel`` and a number."""
    return re.sub(r"_kernel(_\d+)?$", "", kernel)


def _text(extent: Any) -> str:
    """An extent as a reader writes it."""
    return re.sub(r"T\.int(32|64)\((-?\d+)\)", r"\2", str(extent))


def count_calls(mod: tvm.IRModule) -> Counter[str]:
    """How often the Relax functions of a module call each kernel function."""
    import tvm_ffi
    from tvm import ir, relax

    found: Counter[str] = Counter()
    kernel_calls = [ir.Op.get("relax.call_tir"), ir.Op.get("relax.call_tir_inplace")]

    def call(node: relax.Call) -> None:
        if any(node.op.same_as(op) for op in kernel_calls):
            found[str(node.args[0].name_hint)] += 1

    for _, func in mod.functions_items():
        if isinstance(func, relax.Function):
            tvm_ffi.structural_walk(func.body, (relax.Call, call))
    return found
