"""Layers by the number of a block and what stands there, and what is said of several of them."""

from collections.abc import Iterable, Mapping
from typing import Any

Layer = tuple[int, str]
"""A layer: the number of its block, and its target."""


def layer_name(block: int, target: str) -> str:
    """The layer of one block, as a LoRAConfig names it."""
    return f"{block}.{target}"


def split(name: str) -> tuple[int | None, str]:
    """The block and the target of a layer's name; a target by itself has no block."""
    number, _, target = name.partition(".")
    return (int(number), target) if number.isdecimal() and len(number) < 5 else (None, name)


ALL = "all"
"""What a text says that names no blocks."""


NONE = "none"
"""What a text says that names no modules."""


def modules_of(text: str) -> tuple[str, ...]:
    """The modules that a text such as `wte,ln_f` names; none for `none`."""
    return () if text == NONE else tuple(text.split(","))


def text_of_modules(modules: Iterable[str]) -> str:
    """The text that names these modules."""
    return ",".join(modules) or NONE


def blocks_of(text: str) -> tuple[int, ...] | None:
    """The blocks that a text such as `0,10-11` names; none for `all`, None for what names none."""
    if text == ALL:
        return ()
    found: list[int] = []
    for part in text.split(","):
        ends = [int(end) for end in part.split("-") if end.isdecimal() and len(end) < 5]
        if len(ends) != part.count("-") + 1 or len(ends) > 2 or ends[-1] < ends[0]:
            return None
        found += range(ends[0], ends[-1] + 1)
    return tuple(sorted(found)) if len(set(found)) == len(found) else None


def text_of_blocks(blocks: Iterable[int]) -> str:
    """The text that names these blocks."""
    return ",".join(map(str, blocks)) or ALL


def pattern_of(values: Mapping[Layer, Any], usual: Any) -> dict[str, Any]:
    """The shortest pattern that gives every layer its value, where what it lacks has the usual."""
    pattern: dict[str, Any] = {}
    for target in dict.fromkeys(target for _, target in values):
        found = {block: value for (block, at), value in values.items() if at == target}
        value = next(iter(found.values()))
        if all(other == value for other in found.values()):
            found = {}
            pattern |= {target: value} if value != usual else {}
        for block, value in found.items():
            pattern |= {layer_name(block, target): value} if value != usual else {}
    return pattern


def places_of(layers: Iterable[Layer], blocks: int | None) -> dict[str, tuple]:
    """The `targets`, `layers` and `exclude` of a LoRAConfig that adapts just these layers.

    Args:
        layers: those that are adapted, in the targets' order.
        blocks: of the model, where it adapts all that are not excluded; None where it names them.
    """
    adapted = list(layers)
    targets = tuple(dict.fromkeys(target for _, target in adapted))
    named = () if blocks is not None else tuple(sorted({block for block, _ in adapted}))
    numbers = named if blocks is None else tuple(range(blocks))
    every = ((block, target) for target in targets for block in numbers)
    exclude = tuple(layer_name(*layer) for layer in every if layer not in set(adapted))
    return {"targets": targets, "layers": named, "exclude": exclude}
