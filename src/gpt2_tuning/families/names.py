"""Names in files that follow transformers' newer pattern, and the family that has them.

A layer's kernel or gain ends in `.weight`, what is added in `.bias`; kernels are (out, in).
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from gpt2_tuning.families import config_fields
from gpt2_tuning.families.config_fields import ConfigFields
from gpt2_tuning.families.decoder_config import DecoderConfig
from gpt2_tuning.families.family import Family, Heads, StoredWeight

NORMS = {"input_layernorm": "norm_1", "post_attention_layernorm": "norm_2"}


@dataclasses.dataclass(frozen=True)
class Names:
    """The layers' names in files, and their places; those of a block without what precedes it."""

    embedding: str
    dense: Mapping[str, str]
    last_norm: str
    norms: Mapping[str, str] = dataclasses.field(default_factory=lambda: NORMS)
    blocks: str = "layers."
    """Before a block's number."""
    head_norms: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Where queries and keys are normalised."""

    def weights(self, config: DecoderConfig) -> Iterator[StoredWeight]:
        """The table of a base's names."""
        yield StoredWeight(f"{self.embedding}.weight", "tokens.embeddings")
        block = []
        for name, place in self.norms.items():
            block += norm(name, place, shifted=config.norm == "layer")
        for name, place in self.head_norms.items() if config.head_norms else ():
            block += norm(name, place, shifted=False)
        for name, place in self.dense.items():
            block.append(StoredWeight(f"{name}.weight", f"{place}.kernel", True))
            if place in config.biases:
                block.append(StoredWeight(f"{name}.bias", f"{place}.bias"))
        for number in range(config.layers):
            for name, path, transposed in block:
                stored = f"{self.blocks}{number}.{name}"
                yield StoredWeight(stored, f"blocks.{number}.{path}", transposed)
        yield from norm(self.last_norm, "norm", shifted=config.norm == "layer")

    @property
    def parts(self) -> dict[str, str]:
        """The dense layers' whole names in a block, by PEFT's suffix."""
        return {name.rpartition(".")[2]: name for name in self.dense}


def norm(name: str, place: str, shifted: bool) -> list[StoredWeight]:
    """The weights of a normalisation: its gain, and what it adds where it is `shifted`."""
    gain = StoredWeight(f"{name}.weight", f"{place}.gamma")
    return [gain, StoredWeight(f"{name}.bias", f"{place}.beta")] if shifted else [gain]


def family_of(
    config: type[ConfigFields], title: str, names: Names, classes: str, **more: Any
) -> Family:
    """The family of a config.

    Args:
        config: its config.
        title: its name in texts.
        names: of its layers in files.
        classes: how transformers' names of its classes begin.
        more: Family's other fields, and those that differ from the usual.
    """
    usual: dict[str, Any] = {
        "fields_of": config_fields.fields_of,
        "aliases": {},
        "fan_in_fan_out": False,
        "has_gpt2_tokenizer": False,
    }
    heads = (f"{classes}{kind}" for kind in ("Model", "ForCausalLM", "ForSequenceClassification"))
    fields = {
        "name": config.NAME,
        "title": title,
        "config_of": config.from_dict,
        "weights": names.weights,
        "sizes": {size: config.from_size(size) for size in config.SHAPES},
        "architectures": Heads(*heads),
        "block_prefix": names.blocks,
        "lora_targets": {target: names.dense[part] for target, part in names.parts.items()},
        "embedding": f"{names.embedding}.weight",
        "parts": names.parts,
    }
    return Family(**{**usual, **fields, **more})
