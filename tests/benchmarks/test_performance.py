"""The page of figures says what was measured."""

from typing import Any

import pytest

from benchmarks.performance import roof_share, section


def _report() -> dict[str, Any]:
    def row(name: str, ours: float, theirs: float) -> dict[str, Any]:
        return {
            "model": name,
            "work": {"flops": 2e9, "bytes": 1e6},
            "graphopt": {"median_ms": ours, "ratio": 1.0},
            "onnxruntime": {"median_ms": theirs, "ratio": theirs / ours},
        }

    return {
        "machine": "Test CPU",
        "threads": 1,
        "dynamic": False,
        "engines": ["graphopt", "onnxruntime"],
        "ceilings": {"gflops": 100.0, "gbs": 10.0},
        "models": [row("one", 40.0, 80.0), row("two", 25.0, 12.5), {"model": "three", "failed": "GO-3005"}],
    }


def test_a_table() -> None:
    assert section(_report()) == (
        "## 1 thread\n"
        "\n"
        "Test CPU; ceilings 100 GFLOP/s and 10 GB/s.\n"
        "\n"
        "| model | ours, ms | onnxruntime, ms | faster than onnxruntime | of the roof |\n"
        "|---|---|---|---|---|\n"
        "| one | 40.00 | 80.00 | 2.00 | 50% |\n"
        "| two | 25.00 | 12.50 | 0.50 | 80% |\n"
        "| geometric mean | | | 1.00 | |\n"
        "\n"
        "- three: GO-3005\n"
    )


def test_memory_may_be_the_lower_ceiling() -> None:
    assert roof_share({"flops": 1e6, "bytes": 1e9}, 200.0, {"gflops": 100.0, "gbs": 10.0}) == pytest.approx(
        0.5
    )
