"""Targets: found by name, described by features, refused with a reason."""

from __future__ import annotations

import pytest

from graphopt.codegen import cpufeatures, find_target, list_targets, toolchain
from graphopt.codegen.targets import Target
from graphopt.errors import TargetError, UsageError


def test_this_machine_is_described_by_what_its_cpu_has() -> None:
    target = find_target("cpu")
    assert target.features <= cpufeatures.host_features()
    assert target.why_not_here() is None
    assert target.tvm_config()["mcpu"] == cpufeatures.host_cpu()


@pytest.mark.parametrize(
    ("name", "has", "lacks"),
    [
        ("x86-64-v2", "sse4.2", "avx"),
        ("x86-64-v3", "avx2", "avx512f"),
        ("x86-64-v4", "avx512f", "avx512vnni"),
        ("skylake-avx512", "avx512bw", "avx512vnni"),
        ("cpu:znver4", "avx512vnni", "amx-int8"),
        ("aarch64", "neon", "dotprod"),
        ("aarch64-neoverse-n1", "dotprod", "sve"),
        ("riscv64", "d", "v"),
    ],
)
def test_features_come_from_the_cpu_that_is_named(name: str, has: str, lacks: str) -> None:
    features = find_target(name).features
    assert has in features
    assert lacks not in features


def test_vector_width_follows_features() -> None:
    assert [find_target(n).vector_bits for n in ("x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64")] == [
        128,
        256,
        512,
        128,
    ]


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("x86-64-v33", "x86-64-v3"), ("cudda", "cuda"), ("znver44", "znver4"), ("cuda:sm_81", "cuda:sm_8")],
)
def test_unknown_targets_are_refused_with_a_suggestion(name: str, suggestion: str) -> None:
    with pytest.raises(UsageError) as raised:
        find_target(name)
    assert raised.value.code == "GO-2003"
    assert suggestion in str(raised.value.hint)


@pytest.mark.parametrize("name", ["cpu", "aarch64-neoverse-n1", "riscv64", "cuda:sm_90"])
def test_targets_survive_json(name: str) -> None:
    target = find_target(name)
    assert Target.from_dict(target.to_dict()) == target


def test_the_list_says_what_works_here() -> None:
    status = {s.name: s for s in list_targets()}
    assert status["cpu"].why_not_run is None
    foreign = "aarch64" if cpufeatures.architecture(cpufeatures.host_triple()) == "x86_64" else "x86-64-v3"
    assert "this machine is" in str(status[foreign].why_not_run)


def test_a_cpu_without_the_features_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    target = find_target("cpu")
    gone = sorted(target.features)[0]
    monkeypatch.setattr(cpufeatures, "host_features", lambda: target.features - {gone})
    with pytest.raises(TargetError) as raised:
        target.require_runnable()
    assert raised.value.code == "GO-6002"
    assert gone in raised.value.message


def test_a_failing_tool_is_quoted(tmp_path) -> None:  # type: ignore[no-untyped-def]
    broken = tmp_path / "broken.o"
    broken.write_bytes(b"not an object")
    with pytest.raises(TargetError, match=r"failed \(exit") as raised:
        toolchain.link_shared([broken], tmp_path / "out.so", cpufeatures.host_triple())
    assert raised.value.code == "GO-6001"
