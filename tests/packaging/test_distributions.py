"""Wheel and sdist hold the whole package, and the wheel works away from the checkout."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.packaging.test_packages import packages_on_disk

pytestmark = pytest.mark.checkout

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel (built from the sdist, as pip does) and the sdist."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    (sdist,) = out.glob("*.tar.gz")
    return wheel, sdist


def test_wheel_holds_every_package(distributions: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(distributions[0]) as wheel:
        names = set(wheel.namelist())
    for package in packages_on_disk():
        assert f"{package.replace('.', '/')}/__init__.py" in names
    tops = {n.split("/")[0] for n in names}
    assert tops == {"graphopt", next(t for t in tops if t.endswith(".dist-info"))}


def test_sdist_holds_the_sources_once(distributions: tuple[Path, Path]) -> None:
    with tarfile.open(distributions[1]) as sdist:
        names = [n.partition("/")[2] for n in sdist.getnames()]
    assert "pyproject.toml" in names and "LICENSE" in names
    for top in ("graphopt", "passes", "codegen", "fuzz"):
        assert f"{top}/__init__.py" in names


def test_installed_wheel_imports_from_anywhere(distributions: tuple[Path, Path], tmp_path: Path) -> None:
    target = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target)]
    subprocess.run([*install, str(distributions[0])], check=True, capture_output=True)
    code = (
        "import graphopt, graphopt.passes, graphopt.codegen, graphopt.fuzz;"
        "from graphopt.passmanager.registry import get_pass;"
        "get_pass('cleanup');"
        "print(graphopt.codegen.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(target), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()).is_relative_to(target)
