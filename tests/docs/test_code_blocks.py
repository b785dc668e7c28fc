"""Every code block of the documentation runs.

Each document runs in a process and an empty folder of its own that holds ``model.onnx`` (a small
convolutional network with a dynamic batch) and ``x.npz`` (inputs for it), so that commands of the
documentation have something to work on.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.docs import code_blocks
from tests.docs.code_blocks import REASONS, Block, DocumentError, blocks, commands

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    path
    for pattern in ("README.md", "CONTRIBUTING.md", "docs/**/*.md")
    for path in ROOT.glob(pattern)
    if path.is_file()
)
MOST_NOT_RUN = {"installs": 6, "slow": 10, "gpu": 4, "fragment": 6, "tests": 6}
"""How many blocks may be kept from running for each reason, in all documents together."""


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    folder = tmp_path_factory.mktemp("material")
    draw = np.random.default_rng(0)
    weights = {
        "kernel": draw.normal(size=(4, 3, 3, 3)),
        "scale": np.ones(4),
        "shift": np.zeros(4),
        "mean": np.zeros(4),
        "variance": np.ones(4),
    }
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["conv"], name="stem/conv", pads=[1, 1, 1, 1]),
        helper.make_node(
            "BatchNormalization",
            ["conv", "scale", "shift", "mean", "variance"],
            ["normed"],
            name="stem/norm",
        ),
        helper.make_node("Relu", ["normed"], ["y"], name="stem/relu"),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4, 8, 8])],
        [numpy_helper.from_array(w.astype(np.float32), n) for n, w in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, folder / "model.onnx")
    np.savez(folder / "x.npz", x=draw.normal(size=(2, 3, 8, 8)).astype(np.float32))
    return folder


def _run(document: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, code_blocks.__file__, str(document)],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TVM_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=_name)
def test_the_blocks_of_a_document_run(document: Path, material: Path, tmp_path: Path) -> None:
    if not any(b.runs for b in blocks(document.read_text(encoding="utf-8"))):
        return
    for file in material.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    done = _run(document, tmp_path)
    assert done.returncode == 0, done.stderr


def test_blocks_that_do_not_run_are_few() -> None:
    marks: Counter[str] = Counter()
    where: dict[str, list[str]] = {}
    for document in DOCUMENTS:
        for block in blocks(document.read_text(encoding="utf-8")):
            if block.no_run:
                marks[block.no_run] += 1
                where.setdefault(block.no_run, []).append(f"{_name(document)}:{block.line}")
    assert set(MOST_NOT_RUN) == set(REASONS)
    over = {reason: where[reason] for reason, n in marks.items() if n > MOST_NOT_RUN[reason]}
    assert not over


# --- the runner itself ---------------------------------------------------------------------------


def _document(tmp_path: Path, text: str) -> subprocess.CompletedProcess[str]:
    document = tmp_path / "sample.md"
    document.write_text(text, encoding="utf-8")
    return _run(document, tmp_path)


def test_blocks_are_found_with_language_line_and_mark() -> None:
    text = """\
intro
```python
x = 1
```

<!-- no-run: slow, an hour -->

  ```console
  $ graphopt x
  ```
~~~
out
~~~
"""
    assert blocks(text) == [
        Block("python", "x = 1\n", 3),
        Block("console", "$ graphopt x\n", 9, "slow"),
        Block("", "out\n", 12),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```python\nx = 1\n", "not closed"),
        ("```pyhton\nx = 1\n```\n", "'pyhton'"),
        ("<!-- no-run -->\n```python\n```\n", "needs a reason"),
        ("<!-- no-run: because -->\n```python\n```\n", "not 'because'"),
    ],
)
def test_malformed_documents(text: str, message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        blocks(text)


def test_a_mark_holds_for_one_block_only() -> None:
    first, second = blocks("<!-- no-run: slow -->\n```python\n```\n```python\n```\n")
    assert first.no_run == "slow" and second.no_run is None


def test_commands_with_continuations_comments_and_output() -> None:
    block = Block("console", "$ graphopt a \\\n>   --b c  # why\nout\n$ graphopt d\nerror[GO-3001]: no\n", 5)
    first, second = commands(block)
    assert (first.words, first.line, first.expected_code) == (("graphopt", "a", "--b", "c"), 5, None)
    assert (second.line, second.expected_code) == (8, "GO-3001")
    assert [c.words for c in commands(Block("bash", "# set up\n\ngraphopt a\n", 1))] == [("graphopt", "a")]


def test_python_blocks_share_a_namespace_in_order(tmp_path: Path) -> None:
    first, second = "x = 1", "assert x == 1\nopen('made', 'w').close()"
    done = _document(tmp_path, f"```python\n{first}\n```\ntext\n```python\n{second}\n```\n")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = 1\nassert x == 2", "sample.md:4: AssertionError"),
        ("import warnings\nwarnings.warn('old')", "UserWarning: old"),
    ],
)
def test_a_failing_block_fails_the_document(tmp_path: Path, code: str, message: str) -> None:
    done = _document(tmp_path, f"# Title\n\n```python\n{code}\n```\n")
    assert done.returncode == 1
    assert message in done.stderr


def test_other_commands_must_be_marked(tmp_path: Path) -> None:
    block = "```console\n$ pip install graphopt\n```\n"
    done = _document(tmp_path, block)
    assert done.returncode == 1 and "mark the block no-run" in done.stderr
    assert _document(tmp_path, f"<!-- no-run: installs -->\n{block}").returncode == 0
