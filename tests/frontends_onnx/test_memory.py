"""Large weights stay in their file: importing and writing take little memory of their own."""

import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.checkout,
    pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc"),
]


def test_importing_and_writing_leave_weights_in_their_file(tmp_path: Path) -> None:
    from benchmarks.onnx_memory import measure, write_chain

    path = write_chain(tmp_path, 64 << 20)
    imported = measure(path, "import")
    assert imported.size == 64 << 20
    assert imported.anonymous < imported.size // 16
    written = measure(path, "import + .onnx")
    # All weights pass through the writer, as pages of the file.
    assert written.mapped > written.size // 2
    assert written.anonymous < written.size // 16
