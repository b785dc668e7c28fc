"""The page of figures says what was measured."""

from typing import Any

import pytest

from benchmarks.performance import open_sizes, roof_share, section


def _report() -> dict[str, Any]:
    def row(name: str, ours: float, theirs: float) -> dict[str, Any]:
        return {
            "model": name,
            "work": {"flops": 2e9, "bytes": 1e6},
            "kernels": [{"kernel": "fused_matmul_relu", "share": 0.5, "calls": 2}],
            "graphopt": {"median_ms": ours, "ratio": 1.0},
            "onnxruntime": {"median_ms": theirs, "ratio": theirs / ours},
            "openvino": {"median_ms": ours, "ratio": 1.0},
        }

    return {
        "machine": "Test CPU",
        "threads": 1,
        "dynamic": False,
        "engines": ["graphopt", "onnxruntime", "openvino"],
        "ceilings": {"gflops": 100.0, "gbs": 10.0},
        "models": [row("one", 40.0, 80.0), row("two", 25.0, 12.5), {"model": "three", "failed": "GO-3005"}],
    }


def test_a_table() -> None:
    assert section(_report()) == (
        "## 1 thread\n"
        "\n"
        "Test CPU; ceilings 100 GFLOP/s and 10 GB/s.\n"
        "\n"
        "| model | ours, ms | onnxruntime, ms | faster than onnxruntime "
        "| openvino, ms | faster than openvino | ours over the better | of the roof |\n"
        "|---|---|---|---|---|---|---|---|\n"
        "| one | 40.00 | 80.00 | 2.00 | 40.00 | 1.00 | 1.00 | 50% |\n"
        "| two | 25.00 | 12.50 | 0.50 | 25.00 | 1.00 | 2.00 | 80% |\n"
        "| geometric mean | | | 1.00 | | 1.00 | 1.41 | |\n"
        "\n"
        "Where the time goes, on 1 thread:\n"
        "\n"
        "| model | kernels |\n"
        "|---|---|\n"
        "| one | `fused_matmul_relu` 50% (2) |\n"
        "| two | `fused_matmul_relu` 50% (2) |\n"
        "\n"
        "- three: GO-3005\n"
    )


def test_open_sizes_are_compared_with_fixed_ones() -> None:
    fixed, still, many = _report(), _report(), _report()
    still["threads"], many["dynamic"] = 2, True
    many["models"][0]["graphopt"]["median_ms"] = 50.0
    text = open_sizes(many, [still, fixed, many])
    assert "| one | 50.00 | 40.00 | 1.25 |\n" in text
    assert "| two | 25.00 | 25.00 | 1.00 |\n" in text
    assert "| three | failed: GO-3005 | | |\n" in text


def test_memory_may_be_the_lower_ceiling() -> None:
    assert roof_share({"flops": 1e6, "bytes": 1e9}, 200.0, {"gflops": 100.0, "gbs": 10.0}) == pytest.approx(
        0.5
    )
