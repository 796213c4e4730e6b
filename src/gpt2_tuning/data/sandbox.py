"""Jinja for templates of others' making: nothing of Python's is reached, and all of it is bounded.

A template may loop without end, or make a text of gigabytes from a few letters. So every turn of a
loop and every call counts, and no value may be longer than is sensible.
"""

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError
from jinja2.visitor import NodeTransformer

MOST_STEPS = 200_000
"""Turns of loops and calls together, of one rendering."""
MOST_LENGTH = 4_000_000
"""Characters or entries of any value."""
FILTERS = (
    *("trim", "length", "count", "upper", "lower", "title", "capitalize", "first", "last", "join"),
    *("replace", "default", "d", "string", "int", "float", "list", "tojson", "map", "select"),
    *("selectattr", "reject", "rejectattr", "items", "dictsort", "sort", "unique", "reverse"),
    *("safe", "escape", "e", "indent", "sum", "min", "max", "abs", "round"),
)
"""Those that templates use, and that can be bounded."""


class Generation(Extension):
    """`{% generation %}` ... `{% endgeneration %}`: what of the text the assistant said."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja has it

    def parse(self, parser: Any) -> nodes.Node:
        """The block, between the environment's marks."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = nodes.Call(nodes.EnvironmentAttribute("marked"), [], [], None, None)
        return nodes.CallBlock(call, [], [], body).set_lineno(line)


class Counting(NodeTransformer):
    """Has loops and joined texts go through the environment, which bounds them."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        """A loop."""
        self.generic_visit(node)
        node.iter = called("counted", [node.iter])
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        """`a ~ b`."""
        self.generic_visit(node)
        return called("joined", list(node.nodes))


def called(name: str, arguments: list[Any]) -> nodes.Call:
    """A call of the environment's."""
    return nodes.Call(nodes.EnvironmentAttribute(name), arguments, [], None, None)


class Sandbox(ImmutableSandboxedEnvironment):
    """An environment in which a template can do nothing but make a text of bounded size."""

    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def __init__(self, begin: str, end: str) -> None:
        """`begin` and `end` mark what the assistant said: characters that no text holds."""
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
        )
        self.begin, self.end = begin, end
        self.steps = 0
        self.filters = {name: bounded(self.filters[name]) for name in FILTERS}
        self.globals = {"range": self.range, "namespace": self.globals["namespace"]}
        self.globals["raise_exception"] = refuse

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        return super()._generate(Counting().visit(source), *args, **kwargs)

    def step(self) -> None:
        """One more. Raises SecurityError where that is too many."""
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise SecurityError(f"it takes more than {MOST_STEPS:,} steps")

    def counted(self, values: Any) -> Iterator[Any]:
        """The values of a loop."""
        for value in values:
            self.step()
            yield value

    def range(self, *numbers: int) -> "range":
        """As Python's, of no more numbers than may be looped over."""
        found = range(*numbers)
        if len(found) > MOST_STEPS:
            raise SecurityError(f"a range of {len(found):,} numbers is too long")
        return found

    def joined(self, *parts: Any) -> str:
        """`a ~ b`."""
        return check("".join(map(str, parts)))

    def marked(self, caller: Any) -> str:
        """What the assistant said, between marks."""
        return self.begin + caller() + self.end

    def call(self, context: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
        """As the sandbox's, counted and with arguments that are not too large."""
        self.step()
        check_arguments(function, args, kwargs)
        return check(super().call(context, function, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """As the sandbox's, where the result cannot be too large."""
        numbers = [one for one in (left, right) if isinstance(one, int | float)]
        if operator == "%" and isinstance(left, str):
            raise SecurityError("texts are not formatted by % here: use ~")
        if operator == "**" or any(abs(number) > 2**53 for number in numbers):
            raise SecurityError("powers and large numbers are not computed here")
        sizes = [len(one) if hasattr(one, "__len__") else 0 for one in (left, right)]
        if operator == "*" and max(sizes) * max(map(abs, numbers), default=1) > MOST_LENGTH:
            raise SecurityError("a value would be too long")
        if sum(sizes) > MOST_LENGTH:
            raise SecurityError("a value would be too long")
        return super().call_binop(context, operator, left, right)


def refuse(message: str) -> None:
    """What templates call to refuse a conversation."""
    raise TemplateError(str(message)[:200])


def bounded(function: Any) -> Any:
    """A filter whose arguments and result cannot be too large."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        check_arguments(function, args, kwargs)
        return check(function(*args, **kwargs))

    return call


def check_arguments(function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """Raises SecurityError where a number, or what texts are replaced by, is too large."""
    values = [*args, *kwargs.values()]
    for value in values:
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) > MOST_STEPS:
            raise SecurityError(f"the number {value:,} is too large")
    texts = [len(value) for value in values if isinstance(value, str)]
    own = getattr(function, "__self__", None)
    texts += [len(own)] if isinstance(own, str) else []
    name = getattr(function, "__name__", "")
    if name in ("do_replace", "replace", "join", "do_join") and len(texts) > 1:
        longest, other = sorted(texts)[-1:-3:-1]
        if longest * max(other, 1) > 64 * MOST_LENGTH:
            raise SecurityError("a value would be too long")


def check(value: Any) -> Any:
    """The value. Raises SecurityError where it is too long."""
    if isinstance(value, str | list | tuple | dict) and len(value) > MOST_LENGTH:
        raise SecurityError("a value is too long")
    return value


def bounded_text(pieces: Iterator[str]) -> str:
    """The pieces of a rendering end to end. Raises SecurityError where they are too much."""
    length, kept = 0, []
    for piece in pieces:
        length += len(piece)
        if length > MOST_LENGTH:
            raise SecurityError(f"it makes more than {MOST_LENGTH:,} characters")
        kept.append(piece)
    return "".join(itertools.chain(kept))
