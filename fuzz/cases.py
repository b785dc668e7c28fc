"""A case: a graph, what to do with it, and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from graphopt.fuzz.graphs.graph import Graph

Expectation = Literal["fires", "refuses"]
Origin = Literal["recorded", "inferred", "template", "written", "corpus", "reduced"]


@dataclass(frozen=True)
class FuzzCase:
    """One graph to try passes and code generators on.

    Attributes:
        graph: what is computed.
        passes: a pipeline, each pass in its textual form (``cleanup``, ``prune{sparsity=0.5}``).
        seed: of weights and inputs.
        origin: which source most of the graph comes from.
        label: where it stands in its campaign, ``root-seed/index``; two runs of the same campaign give the
            same case the same label.
        rule: the rewrite rule whose template the graph holds.
        expects: whether that rule has to fire on it, or to refuse it.
    """

    graph: Graph
    passes: tuple[str, ...] = ("cleanup",)
    seed: int = 0
    origin: Origin = "recorded"
    label: str = ""
    rule: str | None = None
    expects: Expectation | None = None

    def __post_init__(self) -> None:
        if (self.rule is None) != (self.expects is None):
            raise ValueError("a case with a rule's template says whether the rule has to fire")

    def with_graph(self, graph: Graph) -> FuzzCase:
        """The same case about another graph."""
        return replace(self, graph=graph)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; :meth:`from_dict` reads it back."""
        return {**vars(self), "graph": self.graph.to_dict(), "passes": list(self.passes)}

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> FuzzCase:
        """What :meth:`to_dict` wrote.

        Raises:
            ValueError: it is no case.
        """
        values = dict(data)
        try:
            values["graph"] = Graph.from_dict(values["graph"])
            values["passes"] = tuple(str(p) for p in values.get("passes", ("cleanup",)))
            return FuzzCase(**values)
        except (KeyError, TypeError) as error:
            raise ValueError(f"malformed case: {error!r}") from error
