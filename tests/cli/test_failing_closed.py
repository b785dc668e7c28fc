"""A pass that does harm, an interrupt, a kill, a defect of ours: documented endings, and no output."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from graphopt.cli.main import run
from tests.cli.conftest import Graphopt
from tests.passmanager import planted

COMMANDS = {
    "compile": ("compile", "model.onnx", "-o", "out.so", "--json", "r.json", "--passes"),
    "opt onnx": ("opt", "model.onnx", "-o", "out.onnx", "--json", "r.json", "--passes"),
    "opt pt2": ("opt", "model.onnx", "-o", "out.pt2", "--json", "r.json", "--passes"),
}


HARM = [
    ("test-raises", "GO-4000", "pass 'test-raises' failed: KeyError: 'layer'"),
    ("test-breaks{invariant=signature}", "GO-4001", "after pass 'test-breaks': invariant 'signature'"),
    ("test-requires", "GO-4002", "'test-requires' requires folded"),
    ("test-double", "GO-5000", "does not compute the same"),
    ("test-lossy{factor=1.1}", "GO-5001", "budget"),
    ("test-bounded{bound=0.125}", "GO-5000", "does not compute the same"),
]


@pytest.mark.parametrize(
    ("command", "spec", "code", "words"),
    [
        *(("opt pt2", *harm) for harm in HARM),
        *(("opt onnx", *harm) for harm in (HARM[1], HARM[3])),
        *(("compile", *harm) for harm in (HARM[1], HARM[3], HARM[4])),
    ],
)
def test_a_pass_that_does_harm(
    graphopt: Graphopt, here: Path, scratch: Path, command: str, spec: str, code: str, words: str
) -> None:
    before = sorted(p.name for p in here.iterdir())
    done = graphopt(*COMMANDS[command], f"cleanup,{spec}")
    assert done.status == int(code[3]), done.err
    assert f"error[{code}]" in done.err and words in done.err
    assert done.out == "" and sorted(p.name for p in here.iterdir()) == before
    reproducers = [p for p in scratch.iterdir() if p.name.startswith("graphopt-repro-")]
    if code == "GO-4002":
        assert reproducers == []
    elif command.startswith("opt"):
        (folder,) = reproducers
        assert f"reproduce with: graphopt opt {folder}/program.pt2 --passes" in done.err
    elif int(code[3]) == 5:
        (folder,) = reproducers
        assert "the passes did harm: " in done.err
        command = done.err.split("reproduce with: ")[1].splitlines()[0]
        assert graphopt(*shlex.split(command)[1:]).status == 5


def test_a_file_that_was_there_stays(graphopt: Graphopt, here: Path) -> None:
    (here / "out.onnx").write_bytes(b"precious")
    assert graphopt(*COMMANDS["opt onnx"], "test-double").status == 5
    assert (here / "out.onnx").read_bytes() == b"precious"


def test_within_budget_there_is_output(graphopt: Graphopt, here: Path) -> None:
    done = graphopt(*COMMANDS["compile"], "test-lossy{factor=1.001}")
    assert done.status == 0 and "lossy (relative_l2 <= 0.01)" in done.out
    assert (here / "out.so").exists() and (here / "r.json").exists()


def test_miscompiled_code_is_not_written(
    graphopt: Graphopt, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graphopt.codegen import Artifact

    right = Artifact.__call__

    def wrong(self: Artifact, *inputs: Any, **named: Any) -> Any:
        return tuple(o * 1.001 for o in right(self, *inputs, **named))

    monkeypatch.setattr(Artifact, "__call__", wrong)
    done = graphopt(*COMMANDS["compile"], "cleanup")
    assert done.status == 5 and "error[GO-5000]" in done.err
    assert not (here / "out.so").exists() and not (here / "r.json").exists()
    assert "code generation did harm: " in done.err
    command = done.err.split("reproduce with: ")[1].splitlines()[0]
    again = graphopt(*shlex.split(command)[1:])
    assert again.status == 5 and "code generation did harm: " in again.err


def test_bisect_names_the_pass(graphopt: Graphopt, here: Path) -> None:
    done = graphopt("opt", "model.onnx", "--bisect", "--passes", "cleanup,test-double,dead-code")
    assert done.status == 5
    assert done.out.startswith("first wrong result: pass 16, test-double"), done.out
    assert "error[GO-5000]" in done.err


def test_inspect_names_the_layer_of_a_failed_rule(graphopt: Graphopt, here: Path) -> None:
    done = graphopt("opt", "model.onnx", "--passes", "test-breaks{invariant=operands}")
    assert done.status == 4 and "  node:  " in done.err and "  layer: fc/relu" in done.err


# -- a defect of ours ----------------------------------------------------------------------------


def test_an_internal_error(graphopt: Graphopt, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from graphopt.workflows import passes

    def defect() -> None:
        raise RuntimeError("line one\nline two")

    monkeypatch.setattr(passes, "list_passes", defect)
    done = graphopt("passes", "--json", "-")
    assert done.status == 1 and done.out == ""
    first, second = done.err.splitlines()
    assert first == "error[GO-1000]: internal error: RuntimeError: line one"
    (details,) = scratch.iterdir()
    assert second.endswith(f"details are in {details}")
    text = details.read_text()
    assert "command: graphopt passes --json -" in text and "Traceback" in text and "line two" in text


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (MemoryError(), 1, "error[GO-1000]: out of memory"),
        (OSError(28, "No space left on device", "a.so"), 3, "error[GO-3001]: a.so: No space left on device"),
        (KeyboardInterrupt(), 130, "interrupted; nothing was written"),
        (SystemExit(0), 1, "internal error: SystemExit"),
    ],
)
def test_other_endings(
    graphopt: Graphopt, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, words: str
) -> None:
    from graphopt.workflows import passes

    def end() -> None:
        raise error

    monkeypatch.setattr(passes, "list_passes", end)
    done = graphopt("passes")
    assert done.status == status and words in done.err and done.out == ""


def test_a_pass_cannot_end_the_process(
    graphopt: Graphopt, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planted.Nothing, "apply", lambda self, program, context: sys.exit(0))
    done = graphopt("opt", "model.onnx", "--passes", "test-nothing")
    assert done.status == 4 and "SystemExit" in done.err


def test_an_interrupt_that_a_library_turned_into_an_error(
    graphopt: Graphopt, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graphopt.workflows import passes

    def swallow() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
        except KeyboardInterrupt:
            raise RuntimeError("callback failed") from None

    monkeypatch.setattr(passes, "list_passes", swallow)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        done = graphopt("passes")
        assert done.status == 130 and "RuntimeError" not in done.err
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


# -- processes -----------------------------------------------------------------------------------

HEED = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
"""Shells start background jobs with SIGINT ignored, and the tests may be one."""

WAITING = (
    HEED
    + """
import os, sys
import graphopt

@graphopt.register_pass("test-waits")
class Waits(graphopt.Pass):
    "Tells that it has begun, and waits for a signal."
    def apply(self, program, context):
        os.write(int(sys.argv.pop()), b"!")
        while True:
            __import__("time").sleep(60)

from graphopt.cli import main
main(sys.argv[1:-1])
"""
)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_run_that_is_cut_short(here: Path, scratch: Path, number: signal.Signals, status: int) -> None:
    (here / "out.so").write_bytes(b"old")
    before = sorted(p.name for p in here.iterdir())
    reader, writer = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, *COMMANDS["compile"], "cleanup,test-waits", str(writer)],
        pass_fds=[writer],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(scratch)},
    )
    os.close(writer)
    assert os.read(reader, 1) == b"!", process.communicate()[1]
    os.close(reader)
    process.send_signal(number)
    out, err = process.communicate()
    assert process.returncode == status
    assert out == "" and sorted(p.name for p in here.iterdir()) == before
    assert (here / "out.so").read_bytes() == b"old"
    if number == signal.SIGINT:
        assert err.splitlines()[-1] == "interrupted; nothing was written" and "Traceback" not in err
        assert list(scratch.glob("graphopt*")) == []


def test_an_interrupt_while_the_artifact_is_written(here: Path, scratch: Path) -> None:
    """After the last check, before the file has its name."""
    code = HEED + (
        "import os, sys\n"
        "def interrupt(descriptor):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    __import__('time').sleep(60)\n"
        "from graphopt.cli import main\n"
        "import graphopt.files\n"
        "graphopt.files.os.fsync = interrupt\n"
        "main(sys.argv[1:])\n"
    )
    before = sorted(p.name for p in here.iterdir())
    done = subprocess.run(
        [sys.executable, "-c", code, "opt", "model.onnx", "-o", "out.pt2", "--verify", "off"],
        capture_output=True,
        text=True,
        env=os.environ | {"TMPDIR": str(scratch)},
    )
    assert done.returncode == 130, done.stderr
    assert sorted(p.name for p in here.iterdir()) == before
    assert list(scratch.glob("graphopt*")) == []


def test_a_broken_pipe_is_quiet(here: Path) -> None:
    command = [sys.executable, "-c", "from graphopt.cli import main; main()", "passes", "cleanup"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 141


def test_the_command_works_from_a_thread(here: Path) -> None:
    import threading

    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.append(run(["passes", "--json", "p.json"])))
    thread.start()
    thread.join()
    assert statuses == [0] and (here / "p.json").exists()


def test_results_do_not_depend_on_where_stdout_goes(here: Path) -> None:
    """A report on a device is written to as it is."""
    assert run(["run", "model.so", "--input", "x.npz"]) == 0
    assert run(["compile", "model.onnx", "-q", "--json", "/dev/null"]) == 0
    assert not Path("/dev/null").is_file()
    assert np.load(here / "x.npz").files == ["x"]
