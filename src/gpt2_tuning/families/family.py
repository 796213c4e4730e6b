"""What a family says of itself, so that nothing else in the library lists its names."""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from gpt2_tuning.errors import UserError
from gpt2_tuning.families.decoder_config import DecoderConfig


class StoredWeight(NamedTuple):
    """One row of a family's table of names, which is read both ways."""

    name: str
    """In the family's files, without the prefix of models with heads."""
    path: str
    """Its attribute path in a Decoder, such as "blocks.0.attention.qkv.kernel"."""
    transposed: bool = False
    """Whether files hold the kernel as (out, in)."""


class FamilyConfig(Protocol):
    """A config in a family's own words."""

    @property
    def decoder(self) -> DecoderConfig:
        """The same in the words of no family."""

    @property
    def size(self) -> str | None:
        """The name of the size that has this shape; None where none has."""

    def to_dict(self) -> dict[str, Any]:
        """The fields as a plain dict, which the family's `config_of` reads back."""


@dataclasses.dataclass(frozen=True)
class Heads:
    """A name for each kind of model of a family."""

    base: str
    language_model: str
    classifier: str


@dataclasses.dataclass(frozen=True)
class Family:
    """The names of a family, and its files' words for a decoder."""

    name: str
    """`model_type` in config.json."""
    title: str
    """In texts."""
    config_of: Callable[[Mapping[str, Any]], FamilyConfig]
    """From the fields of config.json; raises UserError for what it cannot compute, by name."""
    fields_of: Callable[[Any, Mapping[str, Any]], dict[str, Any]]
    """What config.json holds of such a config and of what a model says of its head."""
    weights: Callable[[DecoderConfig], Iterator[StoredWeight]]
    """The table of names, in the order in which a base's sum is taken."""
    sizes: Mapping[str, FamilyConfig]
    aliases: Mapping[str, str]
    """Other names of sizes."""
    hub_names: Mapping[str, str]
    """Where sizes are published."""
    unseen_fields: tuple[str, ...]
    """Fields of its config that change the computation, but no weight's shape."""
    architectures: Heads
    """transformers' names of the classes that load such a directory."""
    base_prefix: str
    """Before a base's names in the files of models with heads."""
    block_prefix: str
    """Before the number of a block in names."""
    fan_in_fan_out: bool
    """PEFT's word for whether its kernels are (in, out)."""
    lora_targets: Mapping[str, str]
    """PEFT's suffixes of the layers that LoRA can adapt, and their places in a block."""
    usual_targets: tuple[str, ...]
    """Those that are adapted where nobody says which."""
    embedding: str
    """The token embedding's name in files."""
    has_gpt2_tokenizer: bool
    """Whether its bases have GPT-2's tokenizer where no file beside them says another."""
    parts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Where in a block's names a LoRA target stands, such as `self_attn.q_proj` for `q_proj`; those
    that are not among them are whole."""
    constants: tuple[str, ...] = ()
    """Ends of names in old files that are no weights: what they hold is computed here."""
    head: str = "lm_head.weight"
    """The name in files of a language model's head: its token embedding, or a table of the same
    shape."""

    @property
    def head_module(self) -> str:
        """PEFT's name of that head."""
        return self.head.rpartition(".")[0]

    @functools.cached_property
    def whole_modules(self) -> dict[str, tuple[str, ...]]:
        """What is in no block, by PEFT's names: embeddings and last norm; each with its weights."""
        found: dict[str, tuple[str, ...]] = {}
        for stored in self.weights(next(iter(self.sizes.values())).decoder):
            module = stored.name.rpartition(".")[0]
            if not stored.name.startswith(self.block_prefix):
                found[module] = (*found.get(module, ()), stored.name)
        return found

    def in_block(self, target: str) -> str:
        """A LoRA target's whole name in a block."""
        return self.parts.get(target, target)

    def lora_name(self, name: str) -> re.Match[str] | None:
        """The `block`, the `target` and the `factor`, if it is one, of a name as adapters have it.

        "h.3.attn.c_attn.lora_A.weight" gives "3", "attn.c_attn" and "A"; other names None.
        """
        targets = "|".join(re.escape(self.in_block(target)) for target in self.lora_targets)
        return re.fullmatch(
            rf"{re.escape(self.block_prefix)}(?P<block>[0-9]{{1,4}})\.(?P<target>{targets})"
            r"\.lora_(?:(?P<factor>[AB])\.weight|magnitude_vector)",
            name,
        )

    def adapter_name(self, name: str) -> bool:
        """Whether a weight of such a name may be in an adapter: of an update, or of the base."""
        bias = rf"{re.escape(self.block_prefix)}[0-9]{{1,4}}\.[a-z0-9_.]+\.bias"
        whole = any(name in names for names in self.whole_modules.values())
        return bool(self.lora_name(name) or whole or re.fullmatch(bias, name))

    def place_of(self, target: str) -> str:
        """The place in a block of a LoRA target. Raises UserError where the family has none."""
        if target not in self.lora_targets:
            raise UserError(
                f"{self.name} has no LoRA target {target!r}: choose among "
                f"{', '.join(self.lora_targets)}, or all-linear"
            )
        return self.lora_targets[target]


def follow(root: Any, path: str) -> Any:
    """The object at an attribute path such as "blocks.0.attention.qkv.kernel"."""
    return functools.reduce(
        lambda at, part: at[int(part)] if part.isdigit() else getattr(at, part),
        path.split("."),
        root,
    )
