"""The check of the fuzzer itself: mistakes planted in passes, exporters and code generation are found."""

from graphopt.fuzz.selfcheck.hunt import Catch, Hunter, generated, uniform
from graphopt.fuzz.selfcheck.variant import Variant, all_variants

__all__ = ["Catch", "Hunter", "Variant", "all_variants", "generated", "uniform"]
