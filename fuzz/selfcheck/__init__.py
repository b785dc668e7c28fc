"""The check of the fuzzer itself: mistakes planted in passes, exporters and code generation are found."""

from graphopt.fuzz.selfcheck.hunt import Catch, hunt
from graphopt.fuzz.selfcheck.variant import Variant, all_variants

__all__ = ["Catch", "Variant", "all_variants", "hunt"]
