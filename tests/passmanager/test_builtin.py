"""Every pass that comes with graphopt is known by name before its module is imported."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from graphopt.passes import BUILTIN
from graphopt.passmanager.base import CompositePass, flatten
from graphopt.passmanager.registry import get_pass


@pytest.mark.parametrize("name", sorted(BUILTIN))
def test_a_name_leads_to_the_class_of_that_name(name: str) -> None:
    cls = get_pass(name)
    assert cls.name == name
    assert f"{cls.__module__}:{cls.__name__}".startswith("graphopt.passes.")


def test_the_parts_of_a_pipeline_are_known_too() -> None:
    composites = [c for c in map(get_pass, BUILTIN) if issubclass(c, CompositePass)]
    assert composites
    assert {part.name for c in composites for part in flatten([c()])} <= set(BUILTIN)


def test_a_fresh_process_explains_a_part() -> None:
    script = "from graphopt.cli import main; main()"
    command = [sys.executable, "-c", script, "passes", "remove-identities", "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["passes"]
    assert found["preserves_training"] == "depends on the options"
