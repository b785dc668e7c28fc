"""The list of packages in pyproject.toml is the list of packages on disk."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.checkout

ROOT = Path(__file__).parents[2]
LINKED = ("passes", "codegen", "fuzz")


def packages_on_disk() -> set[str]:
    found = set()
    for top in ("graphopt", *LINKED):
        for init in (ROOT / top).rglob("__init__.py"):
            parts = init.parent.relative_to(ROOT).parts
            if top == "graphopt" and len(parts) > 1 and parts[1] in LINKED:
                continue  # a symlink: counted in its own folder
            prefix = () if top == "graphopt" else ("graphopt",)
            found.add(".".join((*prefix, *parts)))
    return found


def test_every_package_is_listed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(packages_on_disk())


def test_every_folder_with_modules_is_a_package() -> None:
    for top in ("graphopt", *LINKED):
        for module in (ROOT / top).rglob("*.py"):
            if module.match("fuzz/known/*/repro.py"):
                continue  # a stand-alone script, which nobody imports: package data
            assert (module.parent / "__init__.py").exists(), f"{module.parent} has no __init__.py"


@pytest.mark.parametrize("name", LINKED)
def test_links_are_relative_and_lead_to_the_folder(name: str) -> None:
    link = ROOT / "graphopt" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..") / name


def test_one_module_has_one_name() -> None:
    import graphopt.codegen

    assert Path(graphopt.codegen.__file__).resolve().parent == ROOT / "codegen"
    with pytest.raises(ModuleNotFoundError):
        __import__("graphopt_codegen")
