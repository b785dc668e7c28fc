"""``Rewriter``: the one way to change a program's graph.

It keeps what hand-made edits forget: the value of every new node, its origin in the user's model,
and a record of what went and what came.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import fx

from graphopt._torch import LazyGraphModule, resolve_overload_name
from graphopt.errors import PassError
from graphopt.ir.level import Level
from graphopt.ir.program import Program
from graphopt.ir.propagation import value_of
from graphopt.ir.provenance import Origin, RewriteEvent, merged_origin, origin, set_origin

Operator = torch._ops.OpOverload | torch._ops.OpOverloadPacket


class Rewriter:
    """Edits a copy of a program; :meth:`finish` gives the new program.

    Args:
        program: left as it is.
        pass_name: recorded with every change.
    """

    def __init__(self, program: Program, pass_name: str) -> None:
        self.program = program.copy()
        self.pass_name = pass_name
        self.graph = self.program.graph
        self._mode = program.fake_mode
        self._rule = pass_name
        self._sources: tuple[fx.Node, ...] = ()
        self._created: list[fx.Node] = []
        self._erased: list[str] = []
        self._attributes: dict[str, fx.Node] = {
            str(n.target): n for n in self.graph.find_nodes(op="get_attr")
        }

    # -- one rewrite -------------------------------------------------------------------------

    @contextlib.contextmanager
    def rule(self, name: str, sources: Sequence[fx.Node]) -> Iterator[None]:
        """One application of a rule; nodes made inside inherit the origins of ``sources``.

        If the block raises, the nodes that it made are taken out again.
        """
        outer = self._rule, self._sources, self._created, self._erased
        self._rule, self._sources, self._created, self._erased = name, tuple(sources), [], []
        try:
            yield
            if self._created or self._erased:
                self.program.provenance.events.append(
                    RewriteEvent(
                        self.pass_name, name, tuple(self._erased), tuple(n.name for n in self._created)
                    )
                )
        except BaseException:
            for node in reversed(self._created):
                if not node.users and node.graph is self.graph and not node._erased:
                    self.graph.erase_node(node)
            raise
        finally:
            self._rule, self._sources, self._created, self._erased = outer

    @contextlib.contextmanager
    def before(self, node: fx.Node) -> Iterator[None]:
        """New nodes go right before ``node``."""
        with self.graph.inserting_before(node):
            yield

    @contextlib.contextmanager
    def after(self, node: fx.Node) -> Iterator[None]:
        """New nodes go right after ``node``."""
        with self.graph.inserting_after(node):
            yield

    # -- making nodes ------------------------------------------------------------------------

    def call(self, operator: Operator | Any, *args: Any, **kwargs: Any) -> fx.Node:
        """A new call.

        Args:
            operator: an overload; a packet (``torch.ops.aten.add``), whose overload torch's own
                dispatcher picks for these operands; or a function of symbolic integers.
            args: nodes and constants.

        Raises:
            PassError: no overload takes the operands, the operator rejects them, or the result is
                an operator that the program's level does not allow.
        """
        if isinstance(operator, torch._ops.OpOverloadPacket):
            operator = self._overload(operator, args, kwargs)
        node = self.graph.call_function(operator, args, kwargs)
        self._created.append(node)
        set_origin(node, merged_origin(self._sources, f"{self.pass_name}/{self._rule}"))
        self._inherit(node)
        try:
            node.meta["val"] = value_of(node, self._mode, None)
        except Exception as error:
            raise PassError(
                f"rule {self._rule!r} built a call that torch rejects: {getattr(error, 'message', error)}",
                node=node.name,
                layer=origin(node).layer,
            ) from error
        if self.program.level is Level.TORCH and not Level.TORCH.allows(operator):
            self.program.level = Level.GRAPHOPT
        return node

    def _overload(
        self, packet: torch._ops.OpOverloadPacket, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> torch._ops.OpOverload:
        values, named = fx.map_arg((tuple(args), dict(kwargs)), lambda n: n.meta["val"])
        qualified = packet._qualified_op_name
        try:
            with self._mode:
                name = resolve_overload_name(qualified, *values, **named)
        except RuntimeError as error:
            raise PassError(
                f"rule {self._rule!r}: no overload of {qualified} takes these operands: "
                f"{str(error).splitlines()[0]}"
            ) from error
        return getattr(packet, name or "default")

    def _inherit(self, node: fx.Node) -> None:
        """Keeps torch's own metadata, which exporters and debuggers read."""
        for source in self._sources:
            for key in ("stack_trace", "nn_module_stack", "custom"):
                if key in source.meta and key not in node.meta:
                    node.meta[key] = source.meta[key]

    def constant(self, name: str, value: torch.Tensor) -> fx.Node:
        """A node that holds a new tensor.

        Args:
            name: a dotted name; a number is appended when it is taken.
            value: a tensor that requires a gradient (a parameter, or what was computed from one)
                becomes a trainable parameter, any other tensor a buffer.

        Returns:
            a get_attr node ahead of everything that computes.
        """
        name = self._free_of_tensors(name)
        target, i = name, 1
        while target in self._attributes or self._lookup(target) is not None:
            target, i = f"{name}_{i}", i + 1
        module: torch.nn.Module = self.program.graph_module
        *path, leaf = target.split(".")
        for part in path:
            child = getattr(module, part, None)
            if child is None:
                child = torch.nn.Module()
                module.add_module(part, child)
            module = child
        if value.requires_grad and not isinstance(value, torch.nn.Parameter):
            value = torch.nn.Parameter(value.detach())
        if isinstance(value, torch.nn.Parameter):
            module.register_parameter(leaf, value)
        else:
            module.register_buffer(leaf, value)
        first = next(iter(self.graph.nodes))
        with self.graph.inserting_before(first):
            node = self.graph.get_attr(target)
        node.meta["val"] = self._mode.from_tensor(value, static_shapes=True)
        self._attributes[target] = node
        made_by = merged_origin(self._sources, f"{self.pass_name}/{self._rule}")
        set_origin(node, Origin(made_by.layers or (name,), made_by.made_by))
        self._created.append(node)
        return node

    def _lookup(self, target: str) -> Any:
        value: Any = self.program.graph_module
        for part in target.split("."):
            value = getattr(value, part, None)
        return value

    def _free_of_tensors(self, name: str) -> str:
        """``fc.bias.folded`` -> ``fc.bias_folded``: a name cannot go on below a tensor."""
        parts = name.split(".")
        for i in range(1, len(parts)):
            if isinstance(self._lookup(".".join(parts[:i])), torch.Tensor):
                return ".".join([*parts[: i - 1], "_".join(parts[i - 1 :])])
        return name

    # -- taking nodes out --------------------------------------------------------------------

    def replace(self, old: fx.Node, new: fx.Node) -> None:
        """Every use of ``old`` becomes a use of ``new``; ``old`` goes when nothing needs it."""
        if old is new:
            return
        keep = set(self._created) & set(old.users)  # new code may build on the value it replaces
        old.replace_all_uses_with(new, delete_user_cb=lambda user: user not in keep)
        self.erase_unused([old])

    def set_argument(self, node: fx.Node, index: int, value: Any) -> None:
        """Changes one positional operand in place; the node's own value must not change."""
        node.update_arg(index, value)

    def substitute(self, user: fx.Node, old: fx.Node, new: Any) -> None:
        """Puts ``new``, a node or a number, in every place where ``user`` has the operand ``old``.

        The user's own value must not change.
        """

        def swap(node: fx.Node) -> Any:
            return new if node is old else node

        user.args = fx.map_arg(user.args, swap)
        user.kwargs = fx.map_arg(user.kwargs, swap)

    def erase_unused(self, roots: Sequence[fx.Node]) -> int:
        """Erases ``roots`` and their operands as far as nothing uses them; returns how many."""
        count = 0
        stack = list(roots)
        while stack:
            node = stack.pop()
            if node._erased or node.users or node.op in ("placeholder", "output") or is_effect(node):
                continue
            operands = list(node.all_input_nodes)
            self._erase(node)
            count += 1
            stack.extend(operands)
        return count

    def erase_assertion(self, node: fx.Node) -> None:
        """Erases an assertion that was shown to hold; other unused calls go through
        :meth:`erase_unused`."""
        operands = list(node.all_input_nodes)
        self._erase(node)
        self.erase_unused(operands)

    def _erase(self, node: fx.Node) -> None:
        if node.op == "get_attr":
            self._attributes.pop(str(node.target), None)
        if node in self._created:
            self._created.remove(node)
        else:
            self._erased.append(node.name)
        self.graph.erase_node(node)

    # -- the result --------------------------------------------------------------------------

    def finish(self) -> Program:
        """The edited program, without dead code or unused weights."""
        self.graph.eliminate_dead_code(
            is_impure_node=lambda n: n.op in ("placeholder", "output") or is_effect(n)
        )
        program = self.program
        module = LazyGraphModule(program.graph_module, self.graph)
        module.meta = dict(program.graph_module.meta)
        return program.replaced(graph_module=module)


def is_effect(node: fx.Node) -> bool:
    """Whether a call matters though nothing uses its value (an assertion of the user's)."""
    return node.op == "call_function" and "_assert" in str(node.target)
