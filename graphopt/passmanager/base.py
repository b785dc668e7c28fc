"""What a pass is."""

from __future__ import annotations

import abc
import dataclasses
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, get_args, get_origin

from graphopt.contract import Equivalence, Exact
from graphopt.errors import UsageError, did_you_mean
from graphopt.ir.level import Level
from graphopt.ir.program import Program
from graphopt.ir.rewriter import Rewriter
from graphopt.passmanager.spec import PassSpec
from graphopt.rewriting.driver import apply_rules
from graphopt.rewriting.rule import RewriteRule
from graphopt.rewriting.statistics import RuleStatistics


@dataclass
class PassContext:
    """What a pass is given besides the program, and what it reports.

    Attributes:
        calibration: batches of flat input tensors; empty when the user gave none.
        contract: a pass whose class declares ``Bounded()`` sets the contract with its bounds here.
        statistics: rules report here what they did.
        notes: sentences for the report.
    """

    calibration: Sequence[Sequence[Any]] = ()
    contract: Equivalence | None = None
    statistics: list[RuleStatistics] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Pass(abc.ABC):
    """A transformation of programs.

    A pass is a frozen dataclass; its fields are its options, in Python and on the command line.
    Class attributes declare what it promises, and the pass manager holds it to that.

    Attributes:
        name: kebab-case; set by :func:`graphopt.register_pass`.
        equivalence: the contract between input and output.
        levels: levels of programs that the pass accepts.
        produces: the level of its result; None when the level stays.
        requires: properties that an earlier pass of the pipeline must have ensured.
        ensures: properties of the result.
        changes_signature: whether inputs, outputs or dimensions may change.
        preserves_training: whether parameters stay trainable, with gradients for each.
    """

    name: ClassVar[str] = ""
    equivalence: ClassVar[Equivalence] = Exact()
    levels: ClassVar[frozenset[Level]] = frozenset({Level.TORCH, Level.GRAPHOPT})
    produces: ClassVar[Level | None] = None
    requires: ClassVar[frozenset[str]] = frozenset()
    ensures: ClassVar[frozenset[str]] = frozenset()
    changes_signature: ClassVar[bool] = False
    preserves_training: ClassVar[bool] = True

    @abc.abstractmethod
    def apply(self, program: Program, context: PassContext) -> Program:
        """The transformed program; ``program`` itself is left as it is.

        Raises:
            PassError: the pass cannot do what its options ask for.
        """

    def spec(self) -> PassSpec:
        """Name and options; options with default values are left out."""
        options: dict[str, Any] = {}
        for option in dataclasses.fields(self):
            value = getattr(self, option.name)
            if option.default_factory is not dataclasses.MISSING:
                default: Any = option.default_factory()
            else:
                default = option.default
            if default is dataclasses.MISSING or value != default:
                options[option.name] = value
        return PassSpec(self.name or type(self).__name__, options)

    def __str__(self) -> str:
        return str(self.spec())

    @classmethod
    def summary(cls) -> str:
        """The first line of the docstring."""
        doc = cls.__doc__ or ""
        return "" if doc.startswith(f"{cls.__name__}(") else doc.strip().split("\n")[0]

    @classmethod
    def from_spec(cls, spec: PassSpec) -> Pass:
        """The pass with the options of ``spec``, checked against the types of its fields.

        Raises:
            UsageError: GO-2002, for an option that does not exist (with a suggestion), has the wrong
                type, or is refused by the pass.
        """
        known = {f.name: f for f in dataclasses.fields(cls) if f.init}
        hints = typing.get_type_hints(cls)
        values: dict[str, Any] = {}
        for key, value in spec.options.items():
            if key not in known:
                shown = [k.replace("_", "-") for k in known]
                raise UsageError(
                    f"pass {spec.name!r} has no option {key.replace('_', '-')!r}",
                    code="GO-2002",
                    hint=did_you_mean(key.replace("_", "-"), shown)
                    or (f"its options are {', '.join(shown)}" if shown else "it has no options"),
                )
            values[key] = _coerce(spec.name, key, value, hints[key])
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise UsageError(f"pass {spec.name!r}: {error}", code="GO-2002") from error


class RulePass(Pass):
    """A pass that applies rewrite rules to a fixed point."""

    @abc.abstractmethod
    def rules(self) -> Sequence[RewriteRule]:
        """The rules, by priority."""

    def apply(self, program: Program, context: PassContext) -> Program:
        rewriter = Rewriter(program, self.name or type(self).__name__)
        context.statistics.extend(apply_rules(rewriter, self._kept_rules()))
        return rewriter.finish()

    def _kept_rules(self) -> Sequence[RewriteRule]:
        """The rules, made once: they keep their compiled patterns, and a pass does not change."""
        if "_rules" not in self.__dict__:
            self.__dict__["_rules"] = tuple(self.rules())
        return self.__dict__["_rules"]


class RewritePass(RewriteRule, RulePass):
    """A pass of one rule: write ``pattern``, ``check`` and ``rewrite`` on the pass itself."""

    def rules(self) -> Sequence[RewriteRule]:
        return (self,)


class CompositePass(Pass):
    """A named pipeline: runs its parts in order.

    Its contract is that of its parts together; the pass manager records each part.
    """

    @abc.abstractmethod
    def passes(self) -> Sequence[Pass]:
        """The parts in order."""

    def apply(self, program: Program, context: PassContext) -> Program:
        for part in self.passes():
            program = part.apply(program, context)
        return program


def flatten(passes: Sequence[Pass]) -> list[Pass]:
    """The leaves of a pipeline, composites replaced by their parts."""
    leaves: list[Pass] = []
    for item in passes:
        leaves.extend(flatten(item.passes()) if isinstance(item, CompositePass) else [item])
    return leaves


def _coerce(pass_name: str, key: str, value: Any, hint: Any) -> Any:
    """``value`` as the field's type; ints become floats where a float is wanted, nothing else."""
    if _fits(value, hint):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and _fits(float(value), hint):
        return float(value)
    wanted = getattr(hint, "__name__", str(hint)).replace("typing.", "")
    if get_origin(hint) is not None:
        wanted = str(hint).replace("typing.", "")
    raise UsageError(
        f"option {key.replace('_', '-')!r} of pass {pass_name!r} must be {wanted}, not {value!r}",
        code="GO-2002",
    )


def _fits(value: Any, hint: Any) -> bool:
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin is typing.Literal:
        return value in args
    if origin is typing.Union or str(origin) == "<class 'types.UnionType'>":
        return any(_fits(value, a) for a in args)
    if origin in (tuple, list, Sequence):
        inner = [a for a in args if a is not ...]
        return isinstance(value, (tuple, list)) and all(any(_fits(v, a) for a in inner) for v in value)
    if hint is None or hint is type(None):
        return value is None
    if isinstance(value, bool):
        return hint is bool
    return isinstance(hint, type) and isinstance(value, hint)
