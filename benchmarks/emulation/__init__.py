"""How well the emulation of GPU kernels tells wrong from right: ``python -m benchmarks.emulation``."""
