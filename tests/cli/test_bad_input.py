"""Bad input: the exit status, a message that names the thing and helps, and nothing left behind."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from tests.cli import models
from tests.cli.conftest import Graphopt

Fails = Callable[..., str]


@pytest.fixture
def fails(graphopt: Graphopt, here: Path, scratch: Path) -> Iterator[Fails]:
    """Asserts that a command fails as told, with nothing on stdout and no file anywhere."""

    def check(code: str, words: str, *arguments: object) -> str:
        before = _listing(here)
        done = graphopt(*arguments)
        assert done.out == ""
        assert done.err.startswith(f"error[{code}]: "), done.err
        assert words in done.err
        assert done.status == int(code[3])
        assert _listing(here) == before and list(scratch.iterdir()) == []
        return done.err

    yield check


def _listing(folder: Path) -> list[tuple[str, int, int]]:
    found = [(p, p.lstat()) for p in folder.rglob("*")]
    return sorted((str(p), s.st_size, s.st_mtime_ns) for p, s in found)


# -- the model -----------------------------------------------------------------------------------

VERBS = {
    "compile": ("compile", "{}", "-o", "out.so", "--json", "r.json"),
    "opt": ("opt", "{}", "-o", "out.onnx", "--json", "r.json"),
    "inspect": ("inspect", "{}", "--json", "r.json"),
    "compare": ("compare", "model.onnx", "{}", "--json", "r.json"),
    "run": ("run", "{}", "--input", "x.npz", "--output", "y.npz"),
    "bench": ("bench", "{}", "--json", "r.json"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_a_missing_model(fails: Fails, verb: str) -> None:
    fails("GO-3001", "there is no file 'absent.onnx'", *(w.format("absent.onnx") for w in VERBS[verb]))


@pytest.mark.parametrize("verb", VERBS)
def test_a_folder(fails: Fails, here: Path, verb: str) -> None:
    (here / "folder.onnx").mkdir()
    fails("GO-3001", "'folder.onnx' is a folder", *(w.format("folder.onnx") for w in VERBS[verb]))


def test_no_permission(fails: Fails, here: Path) -> None:
    (here / "mine.onnx").write_bytes(b"")
    (here / "mine.onnx").chmod(0)
    if os.access(here / "mine.onnx", os.R_OK):
        pytest.skip("this user may read everything")
    fails("GO-3001", "permission denied", "inspect", "mine.onnx")


PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(range(64))


@pytest.mark.parametrize("verb", ["compile", "opt", "inspect", "run"])
@pytest.mark.parametrize(
    ("name", "data", "code"),
    [("text.onnx", b"hello, this is a text\n", "GO-3002"), ("picture.onnx", PNG, "GO-3002")],
)
def test_not_onnx(fails: Fails, here: Path, verb: str, name: str, data: bytes, code: str) -> None:
    (here / name).write_bytes(data)
    fails(code, f"{name}", *(w.format(name) for w in VERBS[verb]))


def test_another_kind_of_file(fails: Fails, here: Path) -> None:
    (here / "model.tflite").write_bytes(b"TFL3")
    message = fails("GO-3002", "'model.tflite' is not a model that graphopt reads", "inspect", "model.tflite")
    assert ".onnx and .pt2" in message


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_truncated_onnx(fails: Fails, here: Path, share: float) -> None:
    whole = (here / "model.onnx").read_bytes()
    (here / "cut.onnx").write_bytes(whole[: int(len(whole) * share)])
    fails("GO-3003", "cut.onnx", "compile", "cut.onnx", "-o", "out.so")


def test_missing_external_data(fails: Fails, here: Path) -> None:
    models.external(here, "weights.data")
    message = fails("GO-3004", "weights.data", "compile", "external.onnx", "-o", "out.so")
    assert "'w'" in message


def test_truncated_external_data(fails: Fails, here: Path) -> None:
    models.external(here, "weights.data")
    (here / "weights.data").write_bytes(models.WEIGHT.tobytes()[:-4])
    fails("GO-3004", "weights.data", "compile", "external.onnx", "-o", "out.so")


@pytest.mark.parametrize("kind", ["parent", "absolute", "symlink"])
def test_external_data_outside_the_folder(fails: Fails, here: Path, kind: str) -> None:
    secret = here.parent / f"{here.name}-secret"
    secret.write_bytes(models.WEIGHT.tobytes())
    location = {"parent": f"../{secret.name}", "absolute": str(secret), "symlink": "weights.data"}[kind]
    if kind == "symlink":
        (here / "weights.data").symlink_to(secret)
    models.external(here, location)
    words = "leaves the model's folder" if kind == "symlink" else "outside"
    fails("GO-3004", words, "opt", "external.onnx", "-o", "out.onnx")
    secret.unlink()


def test_external_data_in_the_folder_is_read(graphopt: Graphopt, here: Path) -> None:
    models.external(here, "weights.data")
    (here / "weights.data").write_bytes(models.WEIGHT.tobytes())
    assert graphopt("inspect", "external.onnx").status == 0


def test_unknown_operators_are_all_listed(fails: Fails, here: Path) -> None:
    nodes = [
        helper.make_node("Frobnicate", ["x"], ["a"], name="block1/frob", domain="com.example"),
        helper.make_node("Frobnicate", ["a"], ["b"], name="block2/frob", domain="com.example"),
        helper.make_node("Twiddle", ["b"], ["c"], name="block2/twiddle", domain="com.example"),
        helper.make_node("MatMul", ["c", "w"], ["y"], name="fc"),
    ]
    made = models.model(nodes)
    made.opset_import.append(helper.make_opsetid("com.example", 1))
    (here / "unknown.onnx").write_bytes(made.SerializeToString())
    message = fails("GO-3005", "3 node(s) of 2 operator(s)", "compile", "unknown.onnx", "-o", "out.so")
    for name in ("block1/frob", "block2/frob", "block2/twiddle", "2 × com.example.Frobnicate"):
        assert name in message


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt", ".pkl"])
def test_pickled_checkpoints_are_refused_unread(fails: Fails, here: Path, suffix: str) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (open, (str(here / "executed"), "w"))

    (here / f"model{suffix}").write_bytes(pickle.dumps(Trap()))
    message = fails("GO-3008", "pickled checkpoint", "compile", f"model{suffix}", "-o", "out.so")
    assert "torch.export.save" in message


def test_a_pt2_file_that_would_run_code(graphopt: Graphopt, here: Path) -> None:
    """A pickle in the place of a tensor; more of these are in tests/exporters."""
    import zipfile

    import torch

    import graphopt as go

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (open, (str(here / "executed"), "w"))

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.weight

    go.capture(Net().eval(), (torch.ones(3),)).save(here / "good.pt2")
    trapped = 0
    with zipfile.ZipFile(here / "good.pt2") as good, zipfile.ZipFile(here / "evil.pt2", "w") as evil:
        for item in good.infolist():
            data = good.read(item)
            if "/weights/" in item.filename or item.filename.endswith(".pt"):
                data, trapped = pickle.dumps(Trap()), trapped + 1
            evil.writestr(item, data)
    assert trapped
    before = _listing(here)
    done = graphopt("compile", "evil.pt2", "-o", "out.so")
    assert done.status == 3 and "evil.pt2" in done.err
    assert _listing(here) == before and not (here / "executed").exists()


def test_pt2_files_that_are_none(fails: Fails, here: Path) -> None:
    (here / "text.pt2").write_text("hello")
    fails("GO-3002", "text.pt2", "inspect", "text.pt2")


@pytest.mark.parametrize("verb", ["run", "bench", "inspect", "compare"])
@pytest.mark.parametrize("kind", ["text", "foreign", "changed", "cut"])
def test_damaged_and_foreign_artifacts(fails: Fails, here: Path, verb: str, kind: str) -> None:
    whole = bytearray((here / "model.so").read_bytes())
    if kind == "text":
        whole = bytearray(b"hello")
    elif kind == "foreign":
        import _json

        whole = bytearray(Path(_json.__file__).read_bytes())
    elif kind == "changed":
        whole[len(whole) // 2] ^= 1
    else:
        del whole[len(whole) // 2 :]
    (here / "bad.so").write_bytes(whole)
    fails("GO-3011", "bad.so", *(w.format("bad.so") for w in VERBS[verb]))


# -- names, flags and specifications -------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "words", "arguments"),
    [
        ("GO-2000", "there is no command 'compil'; did you mean 'compile'", ("compil", "model.onnx")),
        ("GO-2000", "Did you mean '--target'?", ("compile", "model.onnx", "--tarket", "cpu")),
        ("GO-2000", "Missing argument 'MODEL'", ("compile",)),
        ("GO-2000", "--verify", ("compile", "model.onnx", "--verify", "sometimes")),
        ("GO-2000", "--draws", ("compile", "model.onnx", "--draws", "0")),
        ("GO-2000", "--input", ("run", "model.so")),
        ("GO-2001", "did you mean 'cleanup'?", ("opt", "model.onnx", "--passes", "clenup")),
        ("GO-2001", "did you mean 'cleanup'?", ("compile", "model.onnx", "-o", "a.so", "--passes", "clenup")),
        ("GO-2001", "did you mean 'cleanup'?", ("passes", "cleanups")),
        ("GO-2001", "did you mean 'fuse-norms'", ("inspect", "model.onnx", "--why", "fuse-norm")),
        ("GO-2001", "no pass 'clenup'", ("opt", "model.onnx", "--print-after", "clenup")),
        ("GO-2002", "did you mean 'training'?", ("opt", "model.onnx", "--passes", "cleanup{trainin=true}")),
        ("GO-2002", "must be bool, not 3", ("opt", "model.onnx", "--passes", "cleanup{training=3}")),
        ("GO-2003", "did you mean", ("compile", "model.onnx", "--target", "cqu")),
        ("GO-2004", "column 9", ("opt", "model.onnx", "--passes", "cleanup{")),
        ("GO-2004", "column 1", ("opt", "model.onnx", "--passes", ",cleanup")),
        ("GO-2000", "--dim takes NAME=SIZE", ("compile", "model.onnx", "--dim", "batch")),
        ("GO-2000", "--dim takes NAME=SIZE", ("compile", "model.onnx", "--dim", "batch=many")),
        ("GO-2000", "MIN is at most MAX", ("compile", "model.onnx", "--dim", "batch=4:2")),
        (
            "GO-2000",
            "--dim batch is given twice",
            ("opt", "model.onnx", "--dim", "batch=1", "--dim", "batch=2"),
        ),
        ("GO-2000", "did you mean 'batch'?", ("opt", "model.onnx", "--dim", "bach=1")),
        ("GO-2000", "did you mean 'onnxruntime'?", ("bench", "model.so", "--against", "onnxruntme")),
        ("GO-2000", "no dimension 'bach'", ("bench", "model.so", "--dim", "bach=1")),
        ("GO-2000", "not a range", ("bench", "model.so", "--dim", "batch=1:2")),
        ("GO-2000", "--source is for artifacts", ("inspect", "model.onnx", "--source")),
        ("GO-2000", "--text is for models", ("inspect", "model.so", "--text")),
        ("GO-2000", "passes have already run", ("inspect", "model.so", "--why", "cleanup")),
        ("GO-2000", "ask for one", ("inspect", "model.onnx", "--text", "--json", "-")),
        ("GO-2000", "cannot both go to stdout", ("opt", "model.onnx", "--text", "--json", "-")),
        ("GO-2000", "--bisect goes with none of", ("opt", "model.onnx", "--bisect", "-o", "out.onnx")),
        ("GO-3001", "no file 'r.toml'", ("compile", "model.onnx", "--recipe", "r.toml")),
        ("GO-3000", "cannot be the reference", ("compare", "model.so", "model.onnx")),
    ],
)
def test_malformed_requests(fails: Fails, code: str, words: str, arguments: tuple[str, ...]) -> None:
    fails(code, words, *arguments)


# -- outputs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "words", "arguments"),
    [
        ("GO-3001", "there is no folder 'absent'", ("compile", "model.onnx", "-o", "absent/a.so")),
        ("GO-3001", "there is no folder 'absent'", ("opt", "model.onnx", "-o", "absent/a.onnx")),
        ("GO-3001", "there is no folder 'absent'", ("compile", "model.onnx", "--json", "absent/r.json")),
        (
            "GO-3001",
            "there is no folder 'absent'",
            ("compile", "model.onnx", "--save-recipe", "absent/r.toml"),
        ),
        ("GO-3001", "a folder has that name", ("compile", "model.onnx", "-o", "folder.so")),
        (
            "GO-3001",
            "a folder has that name",
            ("run", "model.so", "--input", "x.npz", "--output", "folder.npz"),
        ),
        ("GO-3002", "its suffix must be .so or .tar", ("compile", "model.onnx", "-o", "a.onnx")),
        ("GO-3002", "its suffix must be .onnx or .pt2", ("opt", "model.onnx", "-o", "a.so")),
        ("GO-3002", "its suffix must be .npz", ("run", "model.so", "--input", "x.npz", "--output", "y.txt")),
    ],
)
def test_outputs_are_checked_before_the_work(
    fails: Fails,
    here: Path,
    code: str,
    words: str,
    arguments: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import graphopt.workflows.compile
    import graphopt.workflows.optimize
    import graphopt.workflows.run

    def work(*args: object, **kwargs: object) -> None:
        raise AssertionError("a model was loaded")

    for module in (graphopt.workflows.compile, graphopt.workflows.optimize, graphopt.workflows.run):
        monkeypatch.setattr(module, "load", work)
    (here / "folder.so").mkdir()
    (here / "folder.npz").mkdir()
    fails(code, words, *arguments)


# -- data at run time ----------------------------------------------------------------------------

X = np.zeros((3, 8), np.float32)


@pytest.mark.parametrize("model", ["model.so", "model.onnx"])
@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"y": X}, "unknown: 'y'; missing: 'x'"),
        ({}, "missing: 'x'"),
        ({"x": X, "z": X}, "unknown: 'z'"),
        ({"x": X.astype(np.int64)}, "'x'"),
        ({"x": X.astype(np.float64)}, "'x'"),
        ({"x": X[:, :7]}, "'x'"),
        ({"x": X[0]}, "'x'"),
        ({"x": np.array(["a", "b"])}, "'x'"),
    ],
)
def test_inputs_that_do_not_fit(
    fails: Fails, here: Path, model: str, arrays: dict[str, np.ndarray], words: str
) -> None:
    np.savez(here / "bad.npz", **arrays)  # type: ignore[arg-type]
    fails("GO-3010", words, "run", model, "--input", "bad.npz", "--output", "y.npz")


@pytest.mark.parametrize("kind", ["text", "npy", "cut", "changed", "pickled"])
def test_damaged_data(fails: Fails, here: Path, kind: str) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (open, (str(here / "executed"), "w"))

    data = bytearray((here / "x.npz").read_bytes())
    if kind == "text":
        data = bytearray(b"hello")
    elif kind == "npy":
        np.save(here / "bad.npy", X)
        data = bytearray((here / "bad.npy").read_bytes())
    elif kind == "cut":
        del data[len(data) // 2 :]
    elif kind == "changed":
        data[200] ^= 0xFF
    (here / "bad.npz").write_bytes(data)
    if kind == "pickled":
        np.savez(here / "bad.npz", x=np.array([Trap()], dtype=object))
    code = "GO-3008" if kind == "pickled" else "GO-3003"
    fails(code, "bad.npz", "run", "model.so", "--input", "bad.npz", "--output", "y.npz")


@pytest.mark.parametrize("verb", ["compile", "opt", "compare"])
def test_data_for_verification_that_does_not_fit(fails: Fails, here: Path, verb: str) -> None:
    np.savez(here / "bad.npz", x=X[:, :7])
    arguments = {
        "compile": ("compile", "model.onnx", "-o", "out.so"),
        "opt": ("opt", "model.onnx", "-o", "out.onnx"),
        "compare": ("compare", "model.onnx", "other.onnx"),
    }[verb]
    fails("GO-3010", "x", *arguments, "--inputs", "bad.npz")


def test_a_model_that_changed_since_it_was_compiled(fails: Fails, graphopt: Graphopt, here: Path) -> None:
    (here / "mine.onnx").write_bytes((here / "model.onnx").read_bytes())
    assert graphopt("compile", "mine.onnx", "-o", "mine.so", "-q").status == 0
    (here / "mine.onnx").write_bytes((here / "other.onnx").read_bytes())
    fails("GO-3000", "has changed since", "bench", "mine.so", "--against", "onnxruntime")
    (here / "mine.onnx").unlink()
    fails("GO-3001", "is gone", "bench", "mine.so", "--against", "onnxruntime")
