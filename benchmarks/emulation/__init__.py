"""How well the emulation of GPU kernels tells wrong ones from right ones: ``python -m benchmarks.emulation``."""
