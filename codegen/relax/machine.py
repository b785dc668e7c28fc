"""What the lowering of an operator asks of the target."""

from __future__ import annotations

from dataclasses import dataclass

from graphopt.codegen.schedules.cpu.dots import Dots
from graphopt.codegen.schedules.cpu.tiling import Registers
from graphopt.codegen.schedules.cuda.tiles import Capability
from graphopt.codegen.targets import Target


@dataclass(frozen=True)
class Machine:
    """A CPU, a GPU, or, without either, nothing that kernels could be arranged for.

    Attributes:
        registers: vector registers of the CPU.
        dots: how the CPU multiplies narrow numbers.
        gpu: capability of the GPU.
        cores: of the CPU, which parallel loops are planned for.
        fast_algorithms: whether Winograd's and Strassen's methods may be used, which round more.
    """

    registers: Registers | None = None
    dots: Dots | None = None
    gpu: Capability | None = None
    cores: int = 1
    fast_algorithms: bool = False

    @staticmethod
    def of(target: Target | None, *, fast_algorithms: bool) -> Machine:
        """The machine that code for ``target`` runs on; None: none in particular."""
        if target is None:
            return Machine()
        if target.kind == "cuda":
            return Machine(gpu=Capability.of(target), cores=target.cores)
        return Machine(Registers.of(target), Dots.of(target), None, target.cores, fast_algorithms)
