"""A seeded mistake: one plausible change of the real code, for as long as a context lasts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

Stage = Literal["passes", "export", "compile"]


@dataclass(frozen=True)
class Variant:
    """One wrong variant of one component.

    Attributes:
        name: kebab-case; says what is wrong.
        component: module or rule that is changed.
        words: the mistake in a sentence.
        within: cases of the generator, all seeds alike, within which it has to be caught.
        stage: which oracles see the component at work.
        needs: parts of operator names, one of which a graph must hold for the component to see it; empty:
            any graph.  Cases without them count and are not run.
        rules: where the mistake is in what rules make of a match: the rules, one of which the right code has
            to apply.  Other cases count and are not run either.
        chance: what the wrong code makes differs from run to run, so that one right result proves nothing.
        patch: changes the code, and changes it back.
    """

    name: str
    component: str
    words: str
    within: int
    stage: Stage
    needs: tuple[str, ...]
    rules: tuple[str, ...]
    chance: bool
    patch: Callable[[], AbstractContextManager[Any]]

    @contextmanager
    def planted(self) -> Iterator[None]:
        """The mistake, and no memory of what the right code left behind."""
        forget()
        try:
            with self.patch():
                yield
        finally:
            forget()


_variants: dict[str, Variant] = {}


def variant(
    component: str,
    words: str,
    *,
    within: int,
    stage: Stage = "passes",
    needs: tuple[str, ...] = (),
    rules: tuple[str, ...] = (),
    chance: bool = False,
) -> Callable[[Callable[[], AbstractContextManager[Any]]], Variant]:
    """Registers the decorated function, which makes the patch; its name with dashes is the variant's."""

    def register(patch: Callable[[], AbstractContextManager[Any]]) -> Variant:
        name = patch.__name__.strip("_").replace("_", "-")
        if name in _variants:
            raise ValueError(f"two variants are called {name!r}")
        _variants[name] = Variant(name, component, words, within, stage, needs, rules, chance, patch)
        return _variants[name]

    return register


def all_variants() -> Mapping[str, Variant]:
    """The list, by name."""
    import graphopt.fuzz.selfcheck.wrong_converters
    import graphopt.fuzz.selfcheck.wrong_exporters
    import graphopt.fuzz.selfcheck.wrong_folds
    import graphopt.fuzz.selfcheck.wrong_passes
    import graphopt.fuzz.selfcheck.wrong_rules
    import graphopt.fuzz.selfcheck.wrong_schedules  # noqa: F401

    return dict(_variants)


def replaced(owner: Any, name: str, value: Any) -> AbstractContextManager[None]:
    """Another value of an attribute.

    Raises (when entered):
        AttributeError: there is none to replace: the code has moved on and the variant has not.
    """

    @contextlib.contextmanager
    def change() -> Iterator[None]:
        before = getattr(owner, name)
        own = name in vars(owner)
        setattr(owner, name, value)
        try:
            yield
        finally:
            if own:
                setattr(owner, name, before)
            else:
                delattr(owner, name)

    return change()


def together(*patches: AbstractContextManager[Any]) -> AbstractContextManager[Any]:
    """Several patches as one."""
    stack = ExitStack()
    for patch in patches:
        stack.enter_context(patch)
    return stack


def forget() -> None:
    """Empties the caches that hold what the code computed before it was changed."""
    from graphopt.exporters.onnx import export
    from graphopt.fuzz.oracles import rules, subject
    from graphopt.passes.cleanup import pipeline

    pipeline.steps.cache_clear()
    rules.known_rules.cache_clear()
    subject._pipeline.cache_clear()
    export._translation.cache_clear()
