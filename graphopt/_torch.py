"""Every private torch name that graphopt uses, in one place.

A torch upgrade that moves one of these breaks here and nowhere else.
"""

from torch._guards import detect_fake_mode
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv, statically_known_true

__all__ = [
    "FakeTensor",
    "FakeTensorMode",
    "ShapeEnv",
    "detect_fake_mode",
    "resolve_overload_name",
    "statically_known_true",
]


def resolve_overload_name(qualified: str, *args: object, **kwargs: object) -> str:
    """The overload that torch's own dispatcher picks, ``("aten::mul", x, 2.0)`` -> ``"Tensor"``.

    Raises:
        RuntimeError: no overload accepts the arguments.
    """
    import torch

    return torch._C._jit_resolve_packet(qualified, *args, **kwargs)
