"""What configs that are named field by field as config.json have in common."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from gpt2_tuning import schema
from gpt2_tuning.checks import is_text, shown
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.decoder_config import DecoderConfig, Dropouts
from gpt2_tuning.families.rotary import OBJECT, apart
from gpt2_tuning.schema import Rule, Schema, or_null

Fixed = Mapping[str, tuple[Any, ...]]
Shapes = Mapping[str, Mapping[str, Any]]

COUNT = schema.whole(1, 10**7)
LAYERS = schema.whole(1, 1000)
SHARE = schema.number(lambda value: 0 <= value < 1, "in [0, 1)")
SPREAD = schema.number(lambda value: 0 <= value < math.inf, "of at least 0")
TOKEN = schema.whole(-1, 10**7)
IDS = or_null(
    Rule(
        lambda value: (
            TOKEN.holds(value) or (isinstance(value, list) and all(map(TOKEN.holds, value)))
        ),
        "a token id or a list of them",
    )
)
GELUS = {
    "gelu": "gelu",
    **dict.fromkeys(("gelu_new", "gelu_fast", "gelu_pytorch_tanh"), "gelu_tanh"),
}
"""DecoderConfig's words for the forms of GELU, by transformers'."""
GELU = Rule(lambda value: is_text(value) and value in GELUS, f"one of {', '.join(GELUS)}")
USUAL: Schema = {
    "num_hidden_layers": LAYERS,
    **dict.fromkeys(("vocab_size", "hidden_size", "intermediate_size"), COUNT),
    **dict.fromkeys(("num_attention_heads", "max_position_embeddings"), COUNT),
    **dict.fromkeys(("initializer_range", "layer_norm_eps", "rms_norm_eps"), SPREAD),
    "rope_scaling": OBJECT,
    **dict.fromkeys(("hidden_dropout", "attention_dropout"), SHARE),
    **dict.fromkeys(("bos_token_id", "eos_token_id"), IDS),
    **dict.fromkeys(("tie_word_embeddings", "attention_bias"), schema.SWITCH),
}
"""What fields may hold whose names most families since GPT-NeoX have in common."""


@dataclasses.dataclass(frozen=True)
class ConfigFields:
    """A family's config. Fields and their defaults are those of transformers' class.

    Raises:
        UserError: a field is out of its range, or no code computes what they come to.
    """

    NAME: ClassVar[str]
    RULES: ClassVar[Schema]
    """What the fields may hold."""
    FIXED: ClassVar[Fixed] = {}
    """Fields of config.json that change the computation, with the values that are computed; the
    first is what is written."""
    ROTARY: ClassVar[tuple[str, str]] = ("rope_theta", "partial_rotary_factor")
    """The names of rotary's base, and of how much of a head is rotated."""
    SHAPES: ClassVar[Shapes]
    """The fields of each named size."""

    def __post_init__(self) -> None:
        if wrong := schema.wrong_field(vars(self), self.RULES):
            raise UserError(wrong)
        self.decoder  # noqa: B018  # refuses what no code computes

    @classmethod
    def from_size(cls, size: str, **changes: Any) -> Self:
        """The config of a named size; keyword arguments change single fields.

        Raises:
            UserError: there is no such size.
        """
        if size not in cls.SHAPES:
            raise UserError(f"unknown model size {size!r}: choose one of {', '.join(cls.SHAPES)}")
        return cls(**{**cls.SHAPES[size], **changes})

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """The config held in a Hugging Face config.json (other fields there are ignored).

        It may be of transformers 4 or 5.

        Raises:
            UserError: the file describes a model that this code would compute differently.
        """
        fields = apart(fields, *cls.ROTARY)
        for name, values in cls.FIXED.items():
            if (found := fields.get(name, values[0])) not in values:
                only = " or ".join(map(repr, values))
                raise UserError(f"config.json has {name}={shown(found)}; only {only} works")
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in fields.items() if name in known})

    def to_dict(self) -> dict[str, Any]:
        """The fields as a plain dict; the family's `config_of` reads it back."""
        return {"model_type": self.NAME, **dataclasses.asdict(self)}

    @property
    def decoder(self) -> DecoderConfig:
        """The same in the words of no family."""
        raise NotImplementedError

    def per_head(self, heads: str) -> int:
        """The channels of a head: those of `hidden_size` over the number that a field `heads` has.

        Raises:
            UserError: they cannot be divided.
        """
        width, number = (getattr(self, name) for name in ("hidden_size", heads))
        if width % number:
            raise UserError(f"hidden_size {width} is not divisible by {heads} {number}")
        return width // number

    def even_share(self, name: str, head_size: int) -> float:
        """The share of a head's channels that a field has.

        Raises:
            UserError: it is not an even number of them, of which rotary positions turn pairs.
        """
        share = getattr(self, name)
        rotated = int(head_size * share)
        if rotated % 2 or not rotated:
            raise UserError(
                f"{name} {share} of a head's {head_size} channels (hidden_size / "
                f"num_attention_heads) must be an even number of them, not {rotated}"
            )
        return share

    @property
    def size(self) -> str | None:
        """The name of the size that has this shape, whatever the dropout; None where none has."""
        shape = dataclasses.replace(self.decoder, dropouts=Dropouts())
        for size in self.SHAPES:
            decoder = type(self).from_size(size).decoder
            if dataclasses.replace(decoder, dropouts=Dropouts()) == shape:
                return size
        return None


def fields_of(config: ConfigFields, head: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json holds of a config, and of what a model says of its head."""
    fixed = {name: values[0] for name, values in config.FIXED.items()}
    return {**fixed, **config.to_dict(), **head, "torch_dtype": "float32"}
