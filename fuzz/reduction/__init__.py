"""Makes findings small: fewer operators, sizes and passes, plain numbers, and the same signature."""

from graphopt.fuzz.reduction.folder import StoredFinding, read_case, read_finding, write_finding
from graphopt.fuzz.reduction.judge import Step
from graphopt.fuzz.reduction.reducer import Reduced, reduce

__all__ = ["Reduced", "Step", "StoredFinding", "read_case", "read_finding", "reduce", "write_finding"]
