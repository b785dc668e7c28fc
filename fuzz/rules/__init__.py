"""Rules of ATen operators: which arguments are valid, and which shapes come out.

:func:`load_rules` reads the file that comes with graphopt; docs/rule_inference.md says how it is made.
"""

from graphopt.fuzz.rules.file import DEFAULT_PATH, RuleFile, load_rules
from graphopt.fuzz.rules.rule import ConcreteRecord, HoldOut, OperatorRule, TensorInput

__all__ = [
    "DEFAULT_PATH",
    "ConcreteRecord",
    "HoldOut",
    "OperatorRule",
    "RuleFile",
    "TensorInput",
    "load_rules",
]
