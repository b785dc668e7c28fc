"""One case in a process of its own: what becomes of it, and what it touched on the way.

The campaign's process has everything imported and forks for each case, which takes milliseconds.  The
child may use little memory and time, and its opening of files is watched in two ways: Python's audit
hooks see every ``open`` of Python, and inotify sees every opening, by anybody, of the files outside the
model's folder to which hostile paths lead.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
import select
import signal
import sys
import sysconfig
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SECONDS = 30
"""Processor time that importing may take."""
_WALL_SECONDS = 180
_COMPARE_SECONDS = 25
_VIRTUAL = 6 << 30
"""Address space beyond what the campaign's process has."""
RESIDENT = 1 << 30
"""Growth of resident memory, over the file's own size, that counts as a blow-up."""
_IN_OPEN, _IN_ACCESS = 0x20, 0x01
_OUT_OF_MEMORY = re.compile(
    r"allocate memory|MemoryError|bad_alloc|Unable to allocate|not enough memory", re.I
)


@dataclass
class Outcome:
    """How one case ended.

    Attributes:
        verdict: agrees, ort-refuses, refused (exit status 3), crash, hang, memory, outside or differs.
        detail: the error, the place or the path.
        seconds: processor time of the import.
        megabytes: growth of resident memory while importing.
    """

    verdict: str
    detail: str = ""
    seconds: float = 0.0
    megabytes: float = 0.0

    @property
    def bad(self) -> bool:
        return self.verdict not in GOOD

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


GOOD = ("agrees", "ort-refuses", "refused")
BAD = ("crash", "hang", "memory", "outside", "differs")


def run(path: Path, outside: Path) -> Outcome:
    """Imports the file in a child process, and compares with onnxruntime what could be imported."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            _child(path, outside, writing)
        finally:
            os._exit(0)
    os.close(writing)
    try:
        lines, timed_out = _listen(reading, child)
    finally:
        os.close(reading)
    _, status, usage = os.wait4(child, 0)
    return _judge(lines, timed_out, status, usage.ru_utime + usage.ru_stime)


def _listen(reading: int, child: int) -> tuple[list[dict[str, Any]], str]:
    """What the child says until it ends, or is ended for taking too long or too much."""
    data, deadline, base, killed = b"", time.monotonic() + _WALL_SECONDS, _resident(child), ""
    while True:
        ready, _, _ = select.select([reading], [], [], 0.1)
        if ready:
            chunk = os.read(reading, 1 << 16)
            if not chunk:
                break
            data += chunk
            deadline = time.monotonic() + _COMPARE_SECONDS
        elif time.monotonic() > deadline:
            killed = killed or "time"
        elif _resident(child) - base > 2 * RESIDENT:
            killed = killed or "memory"
        if killed:
            os.kill(child, signal.SIGKILL)
    return [json.loads(line) for line in data.decode().splitlines()], killed


def _judge(lines: list[dict[str, Any]], killed: str, status: int, seconds: float) -> Outcome:
    imported = next((line for line in lines if line["stage"] == "import"), None)
    if imported is None:
        if killed == "memory":
            return Outcome("memory", "stopped while importing", seconds)
        signalled = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        if killed or signalled == signal.SIGXCPU:
            return Outcome("hang", f"{seconds:.0f} s of processor time", seconds)
        return Outcome("crash", f"signal {signalled or os.WEXITSTATUS(status)}", seconds)
    outcome = Outcome(
        imported["verdict"],
        imported["detail"],
        round(imported["seconds"], 2),
        round(imported["megabytes"], 1),
    )
    if imported["outside"]:
        return Outcome("outside", ", ".join(imported["outside"])[:500], outcome.seconds, outcome.megabytes)
    if outcome.verdict == "imported":
        compared = next((line for line in lines if line["stage"] == "compare"), None)
        # onnxruntime itself dies of some files.
        outcome.verdict = "ort-refuses" if compared is None else compared["verdict"]
        outcome.detail = f"killed: {killed or status}" if compared is None else compared["detail"]
    if outcome.seconds > SECONDS and outcome.verdict not in ("crash", "memory"):
        return Outcome("hang", f"{outcome.seconds} s; {outcome.detail}", outcome.seconds, outcome.megabytes)
    return outcome


# -- the child -----------------------------------------------------------------------------------


def _child(path: Path, outside: Path, writing: int) -> None:
    os.setpgid(0, 0)
    # Libraries may print what they like; and "/dev/stdin" gives nothing.
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    resource.setrlimit(resource.RLIMIT_AS, (_virtual() + _VIRTUAL,) * 2)
    used = int(time.process_time())
    resource.setrlimit(resource.RLIMIT_CPU, (used + 2 * SECONDS, used + 2 * SECONDS + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    base, size = _resident(os.getpid()), path.stat().st_size
    opened: list[str] = []
    watch = _watch(outside)
    _audit(path.parent, opened)
    start = time.process_time()
    verdict, detail, program = _load(path)
    seconds = time.process_time() - start
    opened += _watched(watch)
    peak = _resident(os.getpid(), "VmHWM") - base - size
    if verdict != "crash" and (peak > RESIDENT or _OUT_OF_MEMORY.search(detail)):
        verdict = "memory"
    report = {"stage": "import", "verdict": verdict, "detail": detail, "seconds": seconds}
    _say(writing, {**report, "megabytes": peak / 2**20, "outside": sorted(set(opened))})
    if verdict == "imported":
        verdict, detail = _compare(program, path)
        _say(writing, {"stage": "compare", "verdict": verdict, "detail": detail})


def _load(path: Path) -> tuple[str, str, Any]:
    from graphopt import GraphoptError, load

    try:
        return "imported", "", load(path)
    except GraphoptError as error:
        return ("refused" if error.exit_status == 3 else "crash"), f"{error.code} {error.message}"[:600], None
    except BaseException as error:  # whatever it is, it is what the campaign looks for
        where = traceback.extract_tb(error.__traceback__)
        ours = next((f for f in reversed(where) if "/graphopt/" in f.filename), where[-1])
        return (
            "crash",
            f"{type(error).__name__} at {Path(ours.filename).name}:{ours.lineno}: {error}"[:600],
            None,
        )


def _compare(program: Any, path: Path) -> tuple[str, str]:
    import torch

    from graphopt import GraphoptError
    from graphopt.verification import OnnxRuntimeRunner, verify

    try:
        runner = OnnxRuntimeRunner(path)
        runner(*(torch.zeros(_example(s.shape, program), dtype=s.dtype) for s in program.signature.inputs))
    except Exception as error:
        return "ort-refuses", str(error).strip()[:300]
    try:
        verify(program, runner, draws=2).raise_if_failed()
    except GraphoptError as error:
        # It ran on zeros; what onnxruntime refuses of drawn data is its own business.
        refused = "failed to run" in error.message and "onnxruntime" in error.message
        return ("ort-refuses" if refused else "differs"), f"{error.code} {error.message}"[:600]
    return "agrees", ""


def _example(shape: Any, program: Any) -> list[int]:
    """The smallest sizes that the signature allows."""
    sizes = {
        name: max(r.min, 2 * r.multiple_of if r.multiple_of > 1 else 1)
        for name, r in program.signature.dims.items()
    }
    return list(program.signature.resolve(shape, sizes))


def _audit(folder: Path, opened: list[str]) -> None:
    """Records what Python opens, and programs that it starts, beyond the model's folder and code."""
    import torch

    code = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), sys.prefix, sys.base_prefix}
    code |= {str(Path(torch.__file__).parents[1]), str(Path(__file__).resolve().parents[2])}
    allowed = tuple(f"{os.path.realpath(p)}/" for p in (*code, folder)) + (
        "/proc/self/",
        "/dev/null",
        "/sys/",
    )

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes):
            place = os.path.realpath(os.fsdecode(arguments[0]).replace("\x00", ""))
            if not place.startswith(allowed) and not place.startswith(f"/proc/{os.getpid()}/"):
                opened.append(place)
        elif event in ("subprocess.Popen", "os.system", "os.exec", "socket.connect"):
            opened.append(f"{event} {arguments[:1]}")

    sys.addaudithook(hook)


def _watch(outside: Path) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK)
    for place in outside.iterdir():
        libc.inotify_add_watch(descriptor, os.fsencode(place), _IN_OPEN | _IN_ACCESS)
    return int(descriptor)


def _watched(descriptor: int) -> list[str]:
    try:
        events = os.read(descriptor, 1 << 14)
    except BlockingIOError:
        return []
    return [f"{len(events) // 16} opening(s) of watched files"]


def _say(writing: int, line: dict[str, Any]) -> None:
    os.write(writing, json.dumps(line).encode() + b"\n")


def _virtual() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _resident(process: int, field: str = "VmRSS") -> int:
    """Bytes; 0 when the process is gone."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    found = re.search(rf"{field}:\s+(\d+) kB", status)
    return int(found[1]) << 10 if found else 0
