"""Recipes: settings as a file, and the file that settings make."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphopt import UsageError
from graphopt.recipe import Recipe
from tests.cli.conftest import Graphopt

TEXT = """\
version = 1
target = "cpu"
passes = "cleanup,dead-code"
verify = "each"
draws = 3
seed = 7

[dims]
"batch" = 2
"height" = { min = 32, max = 1024 }
"""


def test_round_trip(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(TEXT)
    recipe = Recipe.resolve(tmp_path / "r.toml")
    assert recipe == Recipe("cpu", "cleanup,dead-code", "each", 3, 7, {"batch": 2, "height": (32, 1024)})
    assert recipe.text() == TEXT


def test_the_command_line_goes_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(TEXT)
    recipe = Recipe.resolve(tmp_path / "r.toml", draws=1, seed=None)
    assert (recipe.draws, recipe.seed) == (1, 7)


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        ("", "must say version = 1", None),
        ("version = 2", "must say version = 1", None),
        ("version = 1\ntarget = ", "is not TOML", None),
        ('version = 1\ntraget = "cpu"', "unknown key 'traget'", "did you mean 'target'?"),
        ("version = 1\nzzz = 1", "unknown key 'zzz'", "the keys are version, target, passes"),
        ("version = 1\ndraws = true", "draws must be int", None),
        ("version = 1\ndraws = 0", "draws must be at least 1", None),
        ('version = 1\nseed = "7"', "seed must be int", None),
        ('version = 1\nverify = "often"', "verify must be one of each, final, emulate, off", None),
        ("version = 1\ndims = 3", "dims must be dict", None),
        ('version = 1\n[dims]\nbatch = "any"', "dims.batch must be a size", None),
        ("version = 1\n[dims]\nbatch = { min = 3 }", "dims.batch must be a size", None),
    ],
)
def test_malformed(tmp_path: Path, text: str, words: str, hint: str | None) -> None:
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(UsageError, match=words) as caught:
        Recipe.resolve(tmp_path / "r.toml")
    assert caught.value.code == "GO-2005"
    assert hint is None or (caught.value.hint or "").startswith(hint)


def test_unknown_passes_are_told_when_the_recipe_is_read(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('version = 1\npasses = "clenup"')
    with pytest.raises(UsageError, match="no pass 'clenup'"):
        Recipe.resolve(tmp_path / "r.toml")


def test_a_dry_run_prints_the_resolved_recipe(graphopt: Graphopt, here: Path) -> None:
    (here / "r.toml").write_text(TEXT)
    before = sorted(here.iterdir())
    done = graphopt(
        *("compile", "model.onnx", "-o", "a.so", "--recipe", "r.toml", "--save-recipe", "-", "--dry-run"),
        *("--dim", "batch=1:4", "--draws", "1"),
    )
    assert (done.status, done.err) == (0, "")
    assert done.out == TEXT.split("[dims]")[0].replace("draws = 3", "draws = 1") + '[dims]\n"batch" = ' + (
        "{ min = 1, max = 4 }\n"
    )
    assert sorted(here.iterdir()) == before


def test_a_saved_recipe_does_the_same_again(graphopt: Graphopt, here: Path) -> None:
    arguments = ("compile", "model.onnx", "--quiet", "--dim", "batch=2", "--passes", "dead-code")
    first = graphopt(*arguments, "--save-recipe", "r.toml", "--json", "one.json")
    again = graphopt("compile", "model.onnx", "--quiet", "--recipe", "r.toml", "--json", "two.json")
    assert first.status == again.status == 0
    assert Recipe.resolve("r.toml").dims == {"batch": 2}


def test_bad_targets_are_told_in_a_dry_run(graphopt: Graphopt, here: Path) -> None:
    (here / "r.toml").write_text('version = 1\ntarget = "cqu"')
    done = graphopt("compile", "model.onnx", "--recipe", "r.toml", "--dry-run")
    assert done.status == 2 and "error[GO-2003]" in done.err and "did you mean" in done.err
