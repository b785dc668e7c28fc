"""Values as C text.

Scalars are expressions of C; vectors use GCC's vector extension, which compiles for any CPU.  A vector
of truth values has no type of its own: it is a vector of integers, 0 or -1, as wide as what was compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from graphopt.codegen.csource.prelude import Prelude
from graphopt.codegen.csource.text import Names, c_type, number
from graphopt.codegen.csource.values import DType, Value, View

# What binds tighter has the higher number.  Where C's rules are better known than they are remembered
# (shifts, bits, comparisons in comparisons) the printer writes parentheses anyway.
_ATOM, _UNARY, _PRODUCT, _SUM, _RELATION, _LOGIC, _LOOSE = 9, 8, 7, 6, 4, 3, 0
_LEVEL = {"*": _PRODUCT, "/": _PRODUCT, "%": _PRODUCT, "+": _SUM, "-": _SUM}
_RELATIONS = ("==", "!=", "<", "<=", ">", ">=")
_LOGICAL = {"&&": "&", "||": "|"}


def fits_vectors(value: Value) -> bool:
    """Whether a vector value, and all that it is made of, can be computed in vectors."""
    seen: set[int] = set()

    def fits(v: Value) -> bool:
        if id(v) in seen or v.dtype.lanes == 1:
            return True
        seen.add(id(v))
        if (
            v.dtype.kind == "bfloat"
            or v.dtype.lanes & (v.dtype.lanes - 1)
            or v.dtype.lanes * v.dtype.bits > 1024
        ):
            return False
        if v.op == "load":
            return v.dtype.kind != "bool" and (v.args[0].dtype.lanes == 1 or is_unit_ramp(v.args[0]))
        if v.op in ("element", "%", "/") and v.dtype.kind != "float":
            return False
        if v.op == "%" or (v.op in ("isnan", "isinf", "isfinite")):
            return False
        if v.op in _RELATIONS and v.args[0].dtype.kind == "bool":
            return False
        if v.op in ("reinterpret", "min", "max", "select") and v.dtype.kind == "bool":
            return False
        if v.op == "call" and v.dtype.kind != "float":
            return False
        if v.op == "cond" and (v.args[0].dtype.lanes > 1 or v.dtype.kind == "bool"):
            return False
        return all(map(fits, v.args))

    return fits(value)


def is_unit_ramp(value: Value) -> bool:
    """Whether a vector of indices counts up by one."""
    return value.op == "ramp" and value.args[1].op == "const" and value.args[1].attribute == 1


class Scope:
    """A block of C: declarations so far, and the names of the values that they hold.

    Args:
        names: of the function.
        prelude: learns which vector types and helpers are used.
        parent: the block around this one.
    """

    def __init__(self, names: Names, prelude: Prelude, parent: Scope | None = None) -> None:
        self.names = names
        self.prelude = prelude
        self.lines: list[str] = []
        self._parent = parent
        self._named: dict[Value, str] = {}
        self._repeated: set[Value] = set()

    def will_print(self, roots: Iterable[Value]) -> None:
        """Find what occurs more than once in what will be printed, so that it gets a name."""
        uses: Counter[Value] = Counter()

        def visit(value: Value) -> None:
            uses[value] += 1
            if uses[value] == 1 and self._find(value) is None:
                # The branches of a condition are blocks of their own, and so is what && may skip.
                lazy = value.op == "cond" or (value.op in _LOGICAL and value.dtype.lanes == 1)
                for arg in value.args[:1] if lazy else value.args:
                    visit(arg)

        for root in roots:
            visit(root)
        plain = ("const", "var", "broadcast", "ramp")
        self._repeated = {v for v, count in uses.items() if count > 1 and v.op not in plain}

    def text(self, value: Value, level: int = _LOOSE) -> str:
        """The value, in parentheses if it binds less than ``level``."""
        name = self._find(value)
        if name is not None:
            return name
        if value in self._repeated:
            return self.name(value)
        text, own = self._print(value)
        return text if own >= level and own != _LOOSE or level == _LOOSE else f"({text})"

    def term(self, value: Value) -> str:
        """The value as an operand of a sum or a comparison."""
        return self.text(value, _SUM)

    def name(self, value: Value, hint: str = "t") -> str:
        """The value as a variable, declared here if it is none yet."""
        found = self._find(value)
        if found is not None:
            return found
        if value.op == "var":
            return str(value.attribute)
        text, _ = self._print(value)
        name = self._named[value] = self.names.new(hint)
        self.lines.append(f"const {self.type_of(value)} {name} = {text};")
        return name

    def type_of(self, value: Value) -> str:
        """The type of a variable that holds the value."""
        if value.dtype.lanes == 1:
            return c_type(value.dtype)
        if value.dtype.kind == "bool":
            return self.prelude.vector(DType("int", mask_bits(value), value.dtype.lanes))
        return self.prelude.vector(value.dtype)

    def _find(self, value: Value) -> str | None:
        scope: Scope | None = self
        while scope is not None:
            if value in scope._named:
                return scope._named[value]
            scope = scope._parent
        return None

    def _print(self, value: Value) -> tuple[str, int]:
        return self._vector(value) if value.dtype.lanes > 1 else self._scalar(value)

    # -- scalars ---------------------------------------------------------------------------------

    def _scalar(self, value: Value) -> tuple[str, int]:
        op, args, dtype = value.op, value.args, value.dtype
        if op == "const":
            text = number(value.attribute, dtype)
            return text, _UNARY if text[0] in "-(" else _ATOM
        if op == "var":
            return str(value.attribute), _ATOM
        if op in ("load", "element"):
            return self.place(value), _ATOM
        if op == "call":
            return f"{value.attribute}({', '.join(self.text(a) for a in args)})", _ATOM
        if op == "cast":
            return self._cast(args[0], dtype)
        if op == "reinterpret":
            helper = self.prelude.reinterpret(args[0].dtype, dtype)
            return f"{helper}({self.text(args[0])})", _ATOM
        if op == "!":
            return f"!{self.text(args[0], _UNARY)}", _UNARY
        if op == "~":
            text = f"~{self.text(args[0], _UNARY)}"
            return (f"({c_type(dtype)}){text}" if dtype.bits < 32 else text), _UNARY
        if op in ("min", "max"):
            a, b = (self.text(x, _ATOM) if x.op == "const" else self.name(x) for x in args)
            return f"{a} {'<' if op == 'min' else '>'} {b} ? {a} : {b}", _LOOSE
        if op in ("cond", "select"):
            return self._choice(value)
        return self._binary(value)

    def _binary(self, value: Value) -> tuple[str, int]:
        op, (a, b), dtype = value.op, value.args, value.dtype
        if op in _LOGICAL:
            return self._logical(value)
        if op in _RELATIONS:
            return f"{self.text(a, _SUM)} {op} {self.text(b, _SUM)}", _RELATION
        if op == "%" and dtype.kind == "float":
            return f"fmod{'' if dtype.bits == 64 else 'f'}({self.text(a)}, {self.text(b)})", _ATOM
        if op == "<<":
            wide = f"uint{max(dtype.bits, 32)}_t"
            return f"({c_type(dtype)})(({wide}){self.text(a, _ATOM)} << {self.text(b, _ATOM)})", _UNARY
        if op in (">>", "&", "|", "^"):
            return f"{self.text(a, _UNARY)} {op} {self.text(b, _UNARY)}", _LOOSE
        level = _LEVEL[op]
        # Associating to the right would change what is rounded; a product in a sum needs no parentheses.
        text = f"{self.text(a, level)} {op} {self.text(b, level + 1)}"
        if dtype.is_integer and dtype.bits < 32:
            left, right_ = (f"(uint32_t){self.text(x, _UNARY)}" for x in (a, b))
            inner = text if op in "/%" else f"{left} {op} {right_}"
            return f"({c_type(dtype)})({inner})", _UNARY
        return text, level

    def _logical(self, value: Value) -> tuple[str, int]:
        """``&&`` and ``||``, whose right side is evaluated only if the left one does not decide."""
        left = self.text(value.args[0], _RELATION)
        block = Scope(self.names, self.prelude, self)
        block.will_print([value.args[1]])
        right = block.text(value.args[1], _RELATION)
        if not block.lines:
            return f"{left} {value.op} {right}", _LOOSE
        name = self._named[value] = self.names.new("t")
        undecided = name if value.op == "&&" else f"!{name}"
        self.lines += [f"{c_type(value.dtype)} {name} = {left};", f"if ({undecided}) {{"]
        self.lines += [*(f"  {line}" for line in block.lines), f"  {name} = {right};", "}"]
        return name, _ATOM

    def _cast(self, source: Value, dtype: DType) -> tuple[str, int]:
        if "bfloat" in (dtype.kind, source.dtype.kind):
            return f"{self.prelude.bfloat16(dtype)}({self.text(source)})", _ATOM
        if dtype.kind == "bool":
            return f"{self.text(source, _SUM)} != 0", _RELATION
        return f"({c_type(dtype)}){self.text(source, _UNARY)}", _UNARY

    def _choice(self, value: Value) -> tuple[str, int]:
        """A condition: an expression where its branches need no variables of their own, else a statement."""
        condition = self.text(value.args[0], _RELATION)
        if value.op == "select":
            return (
                f"{condition} ? {self.text(value.args[1], _UNARY)} : {self.text(value.args[2], _UNARY)}",
                _LOOSE,
            )
        blocks = []
        for arg in value.args[1:]:
            block = Scope(self.names, self.prelude, self)
            block.will_print([arg])
            blocks.append((block, block.text(arg, _UNARY)))
        if not any(block.lines for block, _ in blocks):
            return f"{condition} ? {blocks[0][1]} : {blocks[1][1]}", _LOOSE
        name = self._named[value] = self.names.new("t")
        self.lines.append(f"{self.type_of(value)} {name};")
        for opening, (block, text) in zip((f"if ({condition}) {{", "} else {"), blocks, strict=True):
            self.lines += [opening, *(f"  {line}" for line in block.lines), f"  {name} = {text};"]
        self.lines.append("}")
        return name, _ATOM

    def place(self, value: Value) -> str:
        """Where a scalar is loaded from, which may also be stored to."""
        storage, index = value.attribute.storage, value.args[0]
        name, in_vectors = storage.name, storage.element.lanes > 1
        if value.op == "element":
            lane = value.args[1]
            if in_vectors:
                return f"{name}[{self.text(index)}][{self.text(lane)}]"
            width = value.attribute.element.lanes
            return f"{name}[{self.text(index, _PRODUCT)} * {width} + {self.text(lane, _PRODUCT)}]"
        return (
            f"(({c_type(storage.element)} *){name})[{self.text(index)}]"
            if in_vectors
            else f"{name}[{self.text(index)}]"
        )

    # -- vectors ---------------------------------------------------------------------------------

    def _vector(self, value: Value) -> tuple[str, int]:
        op, args, dtype = value.op, value.args, value.dtype
        if dtype.kind == "bool":
            return self._mask(value)
        type_name = self.prelude.vector(dtype)
        if op == "broadcast":
            one = args[0]
            text = self.text(one) if one.op == "const" else self.name(one)
            return f"({type_name}){{{', '.join([text] * dtype.lanes)}}}", _ATOM
        if op == "ramp":
            lanes = f"({type_name}){{{', '.join(map(str, range(dtype.lanes)))}}}"
            base, stride = (self.text(a, _PRODUCT) for a in args)
            return (f"{base} + {lanes}" if stride == "1" else f"{base} + {stride} * {lanes}"), _SUM
        if op == "load":
            return self.vector_place(value.attribute, args[0], dtype, "const "), _UNARY
        if op == "call":
            helper = self.prelude.function(value.attribute, dtype, len(args))
            return f"{helper}({', '.join(self.text(a) for a in args)})", _ATOM
        if op == "cast":
            source = args[0]
            text = f"-{self.text(source, _UNARY)}" if source.dtype.kind == "bool" else self.text(source)
            return f"__builtin_convertvector({text}, {type_name})", _ATOM
        if op == "reinterpret":
            return f"({type_name}){self.text(args[0], _UNARY)}", _UNARY
        if op in ("min", "max"):
            helper = self.prelude.extremum(op, dtype)
            return f"{helper}({self.text(args[0])}, {self.text(args[1])})", _ATOM
        if op == "select":
            mask = self._as_mask(args[0], dtype.bits)
            helper = self.prelude.select(dtype)
            return f"{helper}({mask}, {self.text(args[1])}, {self.text(args[2])})", _ATOM
        if op == "cond":
            return self._choice(value)
        if op == "~":
            return f"~{self.text(args[0], _UNARY)}", _UNARY
        level = _LEVEL.get(op, _LOOSE)
        a, b = args
        own = level or _UNARY
        return f"{self._operand(a, own, b)} {op} {self._operand(b, own + 1, None)}", level

    def _operand(self, value: Value, level: int, other: Value | None) -> str:
        """An operand of arithmetic; one number for all lanes may stay a scalar beside a vector."""
        scalar_will_do = value.op == "broadcast" and value.dtype.bits >= 32 and value.dtype.kind != "bool"
        if scalar_will_do and (other is None or other.op != "broadcast"):
            return self.text(value.args[0], level)
        return self.text(value, level)

    def _mask(self, value: Value) -> tuple[str, int]:
        op, args, lanes = value.op, value.args, value.dtype.lanes
        bits = mask_bits(value)
        type_name = self.prelude.vector(DType("int", bits, lanes))
        if op in _RELATIONS:
            # Of two broadcasts the right one stays a vector: something must.
            left = self._operand(args[0], _SUM, args[1])
            right = (
                self._operand(args[1], _SUM, None) if args[0].op != "broadcast" else self.text(args[1], _SUM)
            )
            return f"({left} {op} {right})", _ATOM
        if op in ("&&", "||", "&", "|", "^"):
            a, b = (self._as_mask(arg, bits) for arg in args)
            return f"({a} {_LOGICAL.get(op, op)} {b})", _ATOM
        if op == "!":
            return f"~{self._as_mask(args[0], bits)}", _UNARY
        if op == "broadcast":
            one = self.name(args[0])
            return f"({type_name}){{{', '.join([f'-(int{bits}_t){one}'] * lanes)}}}", _ATOM
        assert op == "cast", op
        return f"({self.text(args[0], _SUM)} != 0)", _ATOM

    def _as_mask(self, value: Value, bits: int) -> str:
        if mask_bits(value) == bits:
            return self.text(value, _UNARY)
        wanted = self.prelude.vector(DType("int", bits, value.dtype.lanes))
        return f"__builtin_convertvector({self.text(value)}, {wanted})"

    def vector_place(self, view: View, index: Value, dtype: DType, qualifier: str) -> str:
        """The place of a vector in memory, to be read or (without ``const``) written."""
        name, element = view.storage.name, view.storage.element
        if element.lanes == dtype.lanes and index.dtype.lanes == 1:
            return f"{name}[{self.text(index)}]"
        if element.lanes > 1:
            name = f"({qualifier}{c_type(element)} *){name}"
        if index.dtype.lanes == 1:
            place = f"{name} + {self.text(index, _PRODUCT)} * {view.element.lanes}"
        else:
            place = f"{name} + {self.text(index.args[0], _SUM)}"
        return f"*({qualifier}{self.prelude.vector(dtype)}_u *)({place})"


def mask_bits(value: Value) -> int:
    """Width of the integers that a vector of truth values is held in."""
    if value.op in _RELATIONS:
        return value.args[0].dtype.bits
    if value.op == "cast":
        return value.args[0].dtype.bits
    if value.op == "broadcast":
        return 32
    return mask_bits(value.args[0])
