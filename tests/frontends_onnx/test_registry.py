"""Which converter is chosen."""

import pytest

from graphopt.errors import UsageError
from graphopt.frontends.onnx.registry import Converter, InputKind, Registry


def _registry() -> Registry:
    registry = Registry()
    for since in (1, 13):
        registry.add(Converter("", "Softmax", since, lambda call, x: x))
    return registry


@pytest.mark.parametrize(("opset", "since"), [(1, 1), (12, 1), (13, 13), (22, 13)])
def test_the_highest_version_not_above_the_opset_is_used(opset: int, since: int) -> None:
    found = _registry().find("", "Softmax", opset)
    assert found is not None and found.since == since


def test_nothing_is_found_below_the_first_version_or_for_another_domain() -> None:
    registry = Registry()
    registry.add(Converter("", "Gelu", 20, lambda call, x: x))
    assert registry.find("", "Gelu", 19) is None
    assert registry.find("com.microsoft", "Gelu", 20) is None


def test_ai_onnx_is_the_empty_domain() -> None:
    assert _registry().find("ai.onnx", "Softmax", 17) is not None


def test_a_duplicate_is_refused_and_names_the_first() -> None:
    registry = _registry()
    with pytest.raises(UsageError, match=r"Softmax version 13 is registered already: .*_registry") as error:
        registry.add(Converter("ai.onnx", "Softmax", 13, lambda call, x: x))
    assert error.value.code == "GO-2006"


def test_the_decorator_declares_the_form_of_inputs() -> None:
    registry = Registry()
    registry.operator("Reshape", since=5, host=(1,))(lambda call, x, shape: x)
    found = registry.find("", "Reshape", 14)
    assert found is not None
    assert [found.kind(i) for i in range(2)] == [InputKind.TENSOR, InputKind.HOST]
