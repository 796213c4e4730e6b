"""Jinja for templates of others' making: nothing of Python's is reached, and all of it is bounded.

A template may loop without end, or make a text of gigabytes from a few letters. So every turn of a
loop and every call counts, and no value may be longer than is sensible.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError
from jinja2.visitor import NodeTransformer

MOST_STEPS = 50_000
"""Turns of loops and calls together, of one rendering."""
MOST_LENGTH = 2_000_000
"""Characters of any text."""
MOST_ENTRIES = 5_000
"""Of any list, and numbers of a range."""
MOST_MADE = 40_000_000
"""Characters and entries of all values that one rendering makes."""
METHODS = (
    *("strip", "lstrip", "rstrip", "split", "rsplit", "splitlines", "startswith", "endswith"),
    *("replace", "upper", "lower", "title", "capitalize", "join", "find", "count", "index"),
    *("items", "keys", "values", "get", "isdigit", "isalpha", "removeprefix", "removesuffix"),
)
"""Those of texts, lists and objects that templates use, and that can be bounded."""
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
        self.environment.generations += 1  # type: ignore[attr-defined]
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

    def visit_Output(self, node: nodes.Output) -> nodes.Node:
        """Text, or what is between braces: it may gather in a variable."""
        self.generic_visit(node)
        node.nodes = [called("written", [as_constant(part)]) for part in node.nodes]
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        """`a ~ b`."""
        self.generic_visit(node)
        return called("joined", list(node.nodes))


def as_constant(part: Any) -> Any:
    """A piece of text as a value."""
    return nodes.Const(part.data) if isinstance(part, nodes.TemplateData) else part


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
        self.steps = self.made = self.generations = 0
        self.filters = {name: self.bounded(self.filters[name]) for name in FILTERS}
        self.globals = {"range": self.range, "namespace": self.globals["namespace"]}
        self.globals["raise_exception"] = refuse

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        return super()._generate(Counting().visit(source), *args, **kwargs)

    def begin_again(self) -> None:
        """Another rendering has all steps before it."""
        self.steps = self.made = 0

    def written(self, value: Any) -> Any:
        """What a template writes: text, numbers, and what is made for that, such as JSON."""
        if isinstance(value, list | tuple | dict):
            raise SecurityError("a list or an object is not written: use its parts, or tojson")
        return self.check(value)

    def bounded(self, function: Any) -> Any:
        """A filter whose arguments and result cannot be too large."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            self.step()
            check_arguments(function, args, kwargs)
            return self.check(function(*args, **kwargs))

        return call

    def check(self, value: Any) -> Any:
        """The value. Raises SecurityError where it, or all that was made, is too large."""
        if isinstance(value, str | list | tuple | dict):
            most = MOST_LENGTH if isinstance(value, str) else MOST_ENTRIES
            self.made += len(value)
            if len(value) > most or self.made > MOST_MADE:
                raise SecurityError("it makes values that are too long")
        return value

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
        if len(found) > MOST_ENTRIES:
            raise SecurityError(f"a range of {len(found):,} numbers is too long")
        return found

    def joined(self, *parts: Any) -> str:
        """`a ~ b`."""
        if any(isinstance(part, list | tuple | dict) for part in parts):
            raise SecurityError("a list or an object is not joined to a text: use tojson")
        return self.check("".join(map(str, parts)))

    def marked(self, caller: Any) -> str:
        """What the assistant said, between marks."""
        return self.begin + caller() + self.end

    def call(self, context: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
        """As the sandbox's, counted and with arguments that are not too large."""
        self.step()
        own = getattr(function, "__self__", None)
        if isinstance(own, str | list | tuple | dict) and function.__name__ not in METHODS:
            raise SecurityError(f"the method {function.__name__} is not there")
        check_arguments(function, args, kwargs)
        return self.check(super().call(context, function, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """As the sandbox's, where the result cannot be too large."""
        numbers = [one for one in (left, right) if isinstance(one, int | float)]
        if operator == "%" and isinstance(left, str):
            raise SecurityError("texts are not formatted by % here: use ~")
        if operator == "**" or any(abs(number) > 2**53 for number in numbers):
            raise SecurityError("powers and large numbers are not computed here")
        sizes = [len(one) if hasattr(one, "__len__") else 0 for one in (left, right)]
        most = MOST_LENGTH if isinstance(left, str) or isinstance(right, str) else MOST_ENTRIES
        times = max(map(abs, numbers), default=1) if operator == "*" else 1
        if sum(sizes) * max(times, 1) > most:
            raise SecurityError("a value would be too long")
        return self.check(super().call_binop(context, operator, left, right))


def refuse(message: str) -> None:
    """What templates call to refuse a conversation."""
    raise TemplateError(str(message)[:200])


def check_arguments(function: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """Raises SecurityError where what is made of these would be too large."""
    values = [*args, *kwargs.values()]
    name = getattr(function, "__name__", "")
    numbers = [value for value in values if isinstance(value, int) and value is not True]
    if any(abs(number) > MOST_ENTRIES for number in numbers):
        raise SecurityError(f"the number {max(map(abs, numbers)):,} is too large")
    own = getattr(function, "__self__", None)
    sizes = sorted(len(value) for value in (own, *values) if hasattr(value, "__len__"))
    longest, second = (sizes[-1], sizes[-2]) if len(sizes) > 1 else (0, 0)
    if name.endswith(("replace", "join", "indent")) and longest * max(second, 1) > MOST_MADE:
        raise SecurityError("a value would be too long")
    if name == "do_indent" and sizes and sizes[-1] * max(map(abs, numbers), default=4) > MOST_MADE:
        raise SecurityError("a value would be too long")
    if name in ("do_tojson", "do_string", "soft_str", "str", "do_sum", "sync_do_sum", "do_list"):
        budget(values)


def budget(value: Any, left: int = MOST_MADE) -> int:
    """What is left of a budget of parts after those of a value, in each other.

    Raises:
        SecurityError: nothing is.
    """
    left -= len(value) if isinstance(value, str) else 1
    if left < 0:
        raise SecurityError("a value has too many parts")
    if isinstance(value, list | tuple | dict):
        parts = value.values() if isinstance(value, dict) else value
        for part in parts:
            left = budget(part, min(left, 20 * MOST_ENTRIES))
    return left


def bounded_text(pieces: Iterator[str]) -> str:
    """The pieces of a rendering end to end. Raises SecurityError where they are too much."""
    length, kept = 0, []
    for piece in pieces:
        length += len(piece)
        if length > MOST_LENGTH:
            raise SecurityError(f"it makes more than {MOST_LENGTH:,} characters")
        kept.append(piece)
    return "".join(kept)
