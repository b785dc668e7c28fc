"""The pass manager: runs a pipeline, and believes no pass."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from graphopt.contract import Equivalence, compose_all
from graphopt.errors import GraphoptError, PassError, VerificationError
from graphopt.ir.program import Program
from graphopt.ir.verifier import check_program, check_same_signature
from graphopt.passmanager.apply import apply_pass, differs
from graphopt.passmanager.base import CompositePass, Pass, PassContext, flatten
from graphopt.passmanager.gradients import check_gradients
from graphopt.passmanager.instruments import Instrument
from graphopt.passmanager.registry import build_pipeline
from graphopt.passmanager.reproducer import Settings, add_reproducer
from graphopt.passmanager.result import PassRecord, PassResult
from graphopt.verification import verify

When = Literal["each", "final", "off"]
CompileWhen = Literal["each", "final", "emulate", "off"]
"""``"emulate"`` is ``"final"``, and GPU kernels are checked on the CPU."""


class PassManager:
    """Runs passes in order; the input program is never changed.

    After every pass, the parts of composites included, the invariants of the IR are checked, and
    the signature, the level and what the pass ensures.  After every pass of the list its contract is
    checked on drawn inputs (and on the calibration data): the result so far against the program
    that went in, under the contracts of all passes so far together.

    Args:
        passes: passes, or their textual form.
        instruments: see :mod:`graphopt.passmanager.instruments`.
        verify: ``"each"`` checks contracts after each pass, ``"final"`` once at the end, ``"off"``
            never.  The invariants are checked in any case.
        draws: random inputs a verification.
        seed: of the drawn inputs.
        reproducer_dir: where a failing pass leaves its input and specification; default: the
            system's temporary folder.  ``False`` writes nothing.
    """

    def __init__(
        self,
        passes: str | Sequence[Pass | str],
        *,
        instruments: Sequence[Instrument] = (),
        verify: When = "each",
        draws: int = 2,
        seed: int = 0,
        reproducer_dir: str | Path | Literal[False] | None = None,
    ) -> None:
        self.passes = build_pipeline(passes)
        self.instruments = list(instruments)
        self.verify: When = verify
        self.draws = draws
        self.seed = seed
        self.reproducer_dir = reproducer_dir

    def run(self, program: Program, calibration: Sequence[Sequence[Any]] = ()) -> PassResult:
        """Runs the pipeline.

        Args:
            program: left as it is.
            calibration: batches of flat input tensors, for passes and metrics that need data.

        Raises:
            PassError: a pass failed (GO-4000), broke an invariant (GO-4001) or misses what it
                requires (GO-4002); the error names the reproducer.
            VerificationError: a contract does not hold.
        """
        check_program(program)
        original = program
        properties: frozenset[str] = frozenset()
        records: list[PassRecord] = []
        for instrument in self.instruments:
            instrument.before_pipeline(program, self.passes)
        for i, item in enumerate(self.passes):
            before = program
            context = PassContext(calibration=calibration)
            try:
                program, properties, record = self._run_one(item, program, context, properties, depth=0)
                records.append(record)
                if self.verify == "each" and record.changed:
                    record.verification = self._verify(original, program, records, calibration)
            except GraphoptError as error:
                # Alone, a pass would miss what it requires of the passes before it.
                alone = not any(p.requires for p in flatten([item]))
                start, shown = (before, [item]) if alone else (original, self.passes[: i + 1])
                self._fail(start, shown, calibration, error)
                raise
            for instrument in self.instruments:
                instrument.after_pass(item, program, record, 0)
        contract = compose_all([r.contract for r in records])
        if self.verify == "final" and any(r.changed for r in records):
            try:
                records[-1].verification = self._verify(original, program, records, calibration)
            except GraphoptError as error:
                self._fail(original, self.passes, calibration, error)
                raise
        for instrument in self.instruments:
            instrument.after_pipeline(program)
        return PassResult(program, original, contract, records)

    # -- one pass ----------------------------------------------------------------------------

    def _run_one(
        self, item: Pass, program: Program, context: PassContext, properties: frozenset[str], depth: int
    ) -> tuple[Program, frozenset[str], PassRecord]:
        missing = item.requires - properties
        if missing:
            raise PassError(
                f"pass {item.name!r} requires {', '.join(sorted(missing))}, which no earlier pass ensures",
                code="GO-4002",
            )
        if program.level not in item.levels:
            levels = ", ".join(sorted(level.value for level in item.levels))
            raise PassError(
                f"pass {item.name!r} takes programs of level {levels}, not {program.level.value}",
                code="GO-4002",
            )
        for instrument in self.instruments:
            instrument.before_pass(item, program, depth)
        events = len(program.provenance.events)
        start = time.perf_counter()
        if isinstance(item, CompositePass):
            result, properties, parts = self._run_parts(item, program, context, properties, depth)
            seconds = sum(p.seconds for p in parts)
        else:
            result, parts = apply_pass(item, program, context), []
            seconds = time.perf_counter() - start
        self._check(item, program, result, checked=bool(parts))
        changed = differs(program, result)
        if not changed:
            result = program
        if changed and not parts:
            properties = frozenset()  # what an earlier pass ensured may be undone
        properties |= item.ensures
        contract = compose_all([p.contract for p in parts]) if parts else context.contract or item.equivalence
        record = PassRecord(
            spec=str(item),
            contract=contract,
            seconds=seconds,
            nodes=(len(program.operator_nodes()), len(result.operator_nodes())),
            rewrites=max(0, len(result.provenance.events) - events),
            changed=changed,
            statistics=context.statistics,
            parts=parts,
            notes=context.notes,
        )
        return result, properties, record

    def _run_parts(
        self,
        item: CompositePass,
        program: Program,
        context: PassContext,
        properties: frozenset[str],
        depth: int,
    ) -> tuple[Program, frozenset[str], list[PassRecord]]:
        records: list[PassRecord] = []
        for part in item.passes():
            inner = PassContext(calibration=context.calibration)
            program, properties, record = self._run_one(part, program, inner, properties, depth + 1)
            records.append(record)
            context.statistics.extend(inner.statistics)
            context.notes.extend(inner.notes)
            for instrument in self.instruments:
                instrument.after_pass(part, program, record, depth + 1)
        return program, properties, records

    @staticmethod
    def _check(item: Pass, before: Program, after: Program, *, checked: bool) -> None:
        """``checked``: every part was checked after it ran, and declared what it changed."""
        if not checked:
            try:
                check_program(after)
                if not item.changes_signature:
                    check_same_signature(before.signature, after.signature)
            except PassError as error:
                error.message = f"after pass {item.name!r}: {error.message}"
                raise
        if item.produces is not None and after.level is not item.produces:
            raise PassError(
                f"pass {item.name!r} declares level {item.produces.value}, its result is {after.level.value}",
                code="GO-4001",
            )

    # -- contracts ---------------------------------------------------------------------------

    def _verify(
        self,
        original: Program,
        program: Program,
        records: Sequence[PassRecord],
        calibration: Sequence[Sequence[Any]],
    ) -> Any:
        contract: Equivalence = compose_all([r.contract for r in records])
        report = verify(
            original,
            program,
            contract=contract,
            inputs=calibration or None,
            draws=self.draws,
            seed=self.seed,
        ).raise_if_failed()
        if all(p.preserves_training for p in flatten(self.passes[: len(records)])):
            check_gradients(original, program, seed=self.seed)
        return report

    def _fail(
        self,
        program: Program,
        passes: Sequence[Pass],
        calibration: Sequence[Sequence[Any]],
        error: GraphoptError,
    ) -> None:
        """Names the pass in the error, and leaves a reproducer.

        Args:
            program: the input of ``passes``, the last of which failed.
        """
        item = passes[-1]
        for instrument in self.instruments:
            instrument.on_failure(item, program, error)
        if isinstance(error, VerificationError):
            after = "the pipeline" if len(passes) > 1 and self.verify == "final" else f"pass {item.name!r}"
            error.message = f"after {after}: {error.message}"
        if self.reproducer_dir is False or error.code == "GO-4002":
            return
        settings = Settings(self.verify, self.draws, self.seed)
        add_reproducer(
            error, program, passes, self.reproducer_dir, calibration=calibration, settings=settings
        )
