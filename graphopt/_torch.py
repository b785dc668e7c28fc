"""Every private torch name that graphopt uses, in one place.

A torch upgrade that moves one of these breaks here and nowhere else.
"""

from torch._dynamo.source import ConstantSource
from torch._export.serde import schema as pt2_schema
from torch._export.serde.serialize import ExportedProgramDeserializer
from torch._export.verifier import TrainingIRVerifier
from torch._guards import detect_fake_mode
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.fx.experimental.symbolic_shapes import (
    DimDynamic,
    ShapeEnv,
    StatelessSymbolicContext,
    statically_known_true,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils._sympy.numbers import int_oo
from torch.utils._sympy.value_ranges import ValueRanges

__all__ = [
    "ConstantSource",
    "DimDynamic",
    "ExportedProgramDeserializer",
    "FakeTensor",
    "FakeTensorMode",
    "ShapeEnv",
    "StatelessSymbolicContext",
    "TrainingIRVerifier",
    "ValueRanges",
    "TorchDispatchMode",
    "detect_fake_mode",
    "int_oo",
    "is_constraint_violation",
    "pt2_schema",
    "resolve_overload_name",
    "statically_known_true",
    "tree_map",
    "unset_fake_temporarily",
]


def resolve_overload_name(qualified: str, *args: object, **kwargs: object) -> str:
    """The overload that torch's own dispatcher picks, ``("aten::mul", x, 2.0)`` -> ``"Tensor"``.

    Raises:
        RuntimeError: no overload accepts the arguments.
    """
    import torch

    return torch._C._jit_resolve_packet(qualified, *args, **kwargs)


def is_constraint_violation(error: Exception) -> bool:
    """Whether torch.export says that an axis cannot vary as it was told to."""
    from torch._dynamo.exc import UserError, UserErrorType  # slow to import, and only needed then

    return isinstance(error, UserError) and error.error_type is UserErrorType.CONSTRAINT_VIOLATION
