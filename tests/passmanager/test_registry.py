"""Passes by name: suggestions, clashes, the parts of composites, and installed packages."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graphopt import Pass, Program, UsageError, build_pass, build_pipeline, pass_names, register_pass
from graphopt.passmanager import registry
from graphopt.passmanager.registry import get_pass, pipeline_text
from tests.passmanager import planted


def test_unknown_names_get_a_suggestion() -> None:
    with pytest.raises(UsageError, match="there is no pass 'clenup'") as caught:
        build_pass("clenup")
    assert caught.value.code == "GO-2001" and caught.value.hint == "did you mean 'cleanup'?"
    with pytest.raises(UsageError) as caught:
        build_pass("zzz")
    assert caught.value.hint == "`graphopt passes` lists them"


def test_one_pass_is_not_two() -> None:
    with pytest.raises(UsageError, match="names 2 passes") as caught:
        build_pass("cleanup,cleanup")
    assert caught.value.code == "GO-2004"


def test_a_name_is_taken_once() -> None:
    with pytest.raises(UsageError, match="'test-nothing' is registered twice") as caught:

        @register_pass("test-nothing")
        class Other(planted.Nothing):
            pass

    assert caught.value.code == "GO-2006"
    assert get_pass("test-nothing") is planted.Nothing
    register_pass("test-nothing")(planted.Nothing)  # the same class, as when a module is imported again


@pytest.mark.parametrize("name", ["Relu", "relu_6", "-relu", "relu-", "6relu", ""])
def test_names_are_kebab_case(name: str) -> None:
    with pytest.raises(ValueError, match="not a kebab-case name"):
        register_pass(name)


def test_pipelines_are_data() -> None:
    passes = build_pipeline(["cleanup", planted.Double(1.5), "test-lossy{factor=1.002}"])
    text = pipeline_text(passes)
    assert text == "cleanup,test-double{factor=1.5},test-lossy{factor=1.002}"
    assert build_pipeline(text) == passes


def test_parts_of_composites_have_names() -> None:
    cleanup = get_pass("cleanup")()
    for part in cleanup.passes():  # type: ignore[attr-defined]
        assert part.name in pass_names()
        assert build_pass(str(part)) == part


Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a package with entry points on the path, as an installer would; undone after the test."""
    before = dict(registry._registered)

    def install(package: str, module: str, source: str, **entries: str) -> None:
        folder = tmp_path / package
        info = folder / f"{package}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name.replace('_', '-')} = {place}" for name, place in entries.items()]
        (info / "entry_points.txt").write_text("[graphopt.passes]\n" + "\n".join(lines) + "\n")
        (folder / f"{module}.py").write_text(source)
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.delitem(sys.modules, module, raising=False)
        importlib.invalidate_caches()

    yield install
    registry._registered.clear()
    registry._registered.update(before)


PLAIN = """
import graphopt

class Plain(graphopt.Pass):
    "Does nothing."
    def apply(self, program, context):
        return program
"""


def test_a_package_may_leave_registration_to_its_entry_point(install: Install, program: Program) -> None:
    install("plain", "plain_passes", PLAIN, plain_pass="plain_passes:Plain")
    assert "plain-pass" in pass_names()
    item = build_pass("plain-pass")
    assert isinstance(item, Pass) and item.name == "plain-pass"


@pytest.mark.parametrize(
    ("source", "place", "words"),
    [
        ("import nowhere_to_be_found", "bad:Thing", "No module named 'nowhere_to_be_found'"),
        ("raise RuntimeError('no licence')", "bad:Thing", "RuntimeError: no licence"),
        ("def (", "bad:Thing", "SyntaxError"),
        ("", "bad:Thing", "has no attribute 'Thing'"),
        ("Thing = 3", "bad:Thing", "is not a pass"),
    ],
)
def test_a_broken_package_is_named(install: Install, source: str, place: str, words: str) -> None:
    install("broken", "bad", source, bad_pass=place)
    assert "bad-pass" in pass_names(), "listing imports nothing"
    with pytest.raises(UsageError, match="bad-pass") as caught:
        get_pass("bad-pass")
    assert caught.value.code == "GO-2001" and words in caught.value.message


def test_two_packages_with_one_name(install: Install) -> None:
    install("one", "one_passes", PLAIN, shared_name="one_passes:Plain")
    install("two", "two_passes", PLAIN, shared_name="two_passes:Plain")
    with pytest.raises(UsageError, match="offered twice: by .*one_passes:Plain") as caught:
        get_pass("shared-name")
    assert caught.value.code == "GO-2006"


def test_a_package_cannot_take_the_name_of_a_pass_of_graphopt(install: Install) -> None:
    install("taker", "taker_passes", PLAIN, cleanup="taker_passes:Plain")
    with pytest.raises(UsageError, match="offered twice") as caught:
        get_pass("cleanup")
    assert caught.value.code == "GO-2006"
