"""Tables that commands print on stdout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from graphopt.codegen.gpu_report.kernels import GpuKernel
    from graphopt.codegen.tuning.report import KernelReport
    from graphopt.fuzz.campaign import ReportedFinding
    from graphopt.passmanager.result import PassRecord
    from graphopt.verification import VerificationReport


def console() -> Console:
    """The console of stdout; wide enough not to fold tables when it is a file or a pipe."""
    # Shapes and pass options are in brackets, which rich would read as its own markup.
    found = Console(highlight=False, soft_wrap=False, markup=False, emoji=False)
    if not found.is_terminal:
        found.width = 140
    return found


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A plain table; columns of numbers are right-aligned."""
    made = Table(title=title, box=SIMPLE_HEAD, title_justify="left", title_style="bold")
    for i, name in enumerate(columns):
        numeric = bool(rows) and all(row[i][:1].isdigit() or row[i] in ("", "-") for row in rows)
        made.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def pass_table(records: Sequence[PassRecord]) -> Table:
    """Passes and their parts: operators before and after, rewrites, time, contract."""
    rows: list[tuple[str, ...]] = []

    def add(record: PassRecord, depth: int) -> None:
        rows.append(
            (
                "  " * depth + record.spec,
                str(record.nodes[0]),
                str(record.nodes[1]),
                str(record.rewrites),
                f"{record.seconds:.2f}",
                str(record.contract),
            )
        )
        for part in record.parts:
            if part.changed:
                add(part, depth + 1)

    for record in records:
        add(record, 0)
    return table("passes", ("pass", "before", "after", "rewrites", "seconds", "contract"), rows)


def check_table(checks: Mapping[str, VerificationReport]) -> Table:
    """Verification: one row an output and check."""
    from graphopt.verification.report import COLUMNS

    rows = [(name, *row) for name, report in checks.items() for row in report.rows()]
    return table("verification", ("check", *COLUMNS), rows)


def notes(lines: Sequence[str]) -> str:
    return "\n".join(f"note: {line}" for line in lines)


def tuning_table(kernels: Sequence[KernelReport]) -> Table:
    """Kernels with their time before and after tuning, and those of which none was tried in one line."""
    rows = []
    untried = [k for k in kernels if not k.trials and not k.skipped]
    skipped = [k for k in kernels if k.skipped]
    for k in kernels:
        if not k.trials:
            continue
        if k.default_microseconds is None or k.tuned_microseconds is None:
            continue
        decided = ", ".join(f"{name}={value}" for name, value in k.decisions.items())
        default, tuned = f"{k.default_microseconds:.2f}", f"{k.tuned_microseconds:.2f}"
        rows.append((k.name, str(k.calls), default, tuned, f"{k.gain:.2f}", str(k.trials), decided))
    if untried:
        total = f"{sum(k.calls * (k.default_microseconds or 0.0) for k in untried):.2f}"
        rows.append((f"{len(untried)} others, in all", "", total, total, "-", "0", ""))
    if skipped:
        why = ", ".join(sorted({k.skipped for k in skipped if k.skipped}))
        rows.append((f"{len(skipped)} not tuned", "", "-", "-", "-", "0", why))
    columns = ("kernel", "calls", "default us", "tuned us", "gain", "trials", "decisions")
    return table("kernels", columns, rows)


def gpu_table(kernels: Sequence[GpuKernel]) -> Table:
    """GPU kernels: rule, resources on each architecture, occupancy and the least time on each GPU."""
    from graphopt.codegen.gpu_report.roofline import GPUS

    architectures = sorted({a for k in kernels for a in k.resources})
    shown = [g for g in GPUS if g.architecture in architectures]
    columns = ["kernel", "rule", "calls", "threads", "shared B"]
    columns += [f"{what} {a}" for a in architectures for what in ("regs", "spill B")]
    columns += [f"{what} {g.name}" for g in shown for what in ("occ %", "least us")]
    rows = []
    for kernel in kernels:
        shared = max((kernel.shared(a) for a in architectures), default=kernel.dynamic_shared)
        row = [kernel.name, kernel.rule, str(kernel.calls), str(kernel.threads), str(shared)]
        for architecture in architectures:
            found = kernel.resources.get(architecture)
            row += (
                [str(found.registers), str(found.spill_stores + found.spill_loads)] if found else ["-", "-"]
            )
        for gpu in shown:
            share, least = kernel.occupancy(gpu), kernel.estimate(gpu)
            row.append("-" if share is None else f"{100 * share:.0f}")
            row.append("-" if least is None else f"{least.seconds * 1e6:.3f} {least.bound[0]}")
        rows.append(row)
    return table("GPU kernels (least time: roofline, c compute or m memory bound)", columns, rows)


def spill_warnings(kernels: Sequence[GpuKernel]) -> list[str]:
    """A line for each kernel whose registers did not suffice."""
    return [
        f"warning: {kernel.name} ({kernel.rule}) spills registers on {', '.join(kernel.spills)}"
        for kernel in kernels
        if kernel.spills
    ]


def findings_table(findings: Sequence[ReportedFinding]) -> Table:
    """What the fuzzer found: a row a signature."""
    rows = [
        (
            finding.issue or finding.status,
            str(finding.signature),
            str(len(finding.labels)),
            finding.labels[0] if finding.labels else "-",
            finding.folder or "",
        )
        for finding in findings
    ]
    return table("findings", ("status", "signature", "cases", "first", "folder"), rows)
