"""A decoder as a Keras model: its passes, its weights by name, and the adapter it was made with."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import keras
import tensorflow as tf

from gpt2_tuning.config import EXAMPLE, LoRAConfig
from gpt2_tuning.data.inputs import Inputs
from gpt2_tuning.errors import UserError
from gpt2_tuning.families import known
from gpt2_tuning.families.family import Family, FamilyConfig, follow
from gpt2_tuning.models import starting
from gpt2_tuning.models.cache import Cache
from gpt2_tuning.models.decoder import Decoder
from gpt2_tuning.models.gate import Gate
from gpt2_tuning.models.initial import left_out
from gpt2_tuning.models.keras_state import SavedByName
from gpt2_tuning.models.lora import LoRADense
from gpt2_tuning.models.mixture import Mixture
from gpt2_tuning.models.with_tokenizer import WithTokenizer

ROUNDING = ("bfloat16", "float16")
"""Types in which an update of a tuned weight would often be too small to change it."""


class DecoderModel(WithTokenizer, SavedByName):
    """A Keras model around a decoder, which may have been made with an adapter.

    Args:
        config: a config such as GPT2Config, or its fields as a dict.
        lora: a LoRAConfig, a dict of its fields, or None for a model without LoRA weights.
        kwargs: `name`, and `dtype` (a Keras dtype policy such as "mixed_bfloat16").

    Raises:
        UserError: the config is of a family that this class is not for.
    """

    only_family: ClassVar[str | None] = None
    """The family that a class is for; None is all of them."""
    task_type: ClassVar[str] = "FEATURE_EXTRACTION"
    """PEFT's word for what the model does."""

    def __init__(
        self,
        config: FamilyConfig | Mapping[str, Any],
        lora: LoRAConfig | Mapping[str, Any] | None = None,
        **kwargs,
    ):
        # The layers inside cast by themselves; a cache may be in a type of its own.
        super().__init__(autocast=False, **kwargs)
        self.config = known.config_of(config) if isinstance(config, Mapping) else config
        self.family: Family = known.family_of(self.config)
        if self.only_family not in (None, self.family.name):
            raise UserError(
                f"{type(self).__name__} is for {self.only_family}, not for {self.family.name}"
            )
        given = LoRAConfig.of(lora)
        self.lora = given.within(self.family) if given else None
        own = self.lora.own_names(self.config) if self.lora else []
        if own and self.dtype_policy.variable_dtype in ROUNDING:
            raise UserError(
                "bias and modules_to_save tune weights of the base, which must be held in float32: "
                f"dtype='mixed_{self.dtype_policy.compute_dtype}'"
            )
        self.gate: Gate | None = Gate() if self.lora else None
        self.transformer = Decoder(
            self.config.decoder,
            self.lora.updates_in(self.config) if self.lora else (),
            dtype=self.dtype_policy,
            name="transformer",
        )
        self.label_names: list[str] = []
        """A classifier's classes, in the order of its scores."""
        self.pretrained_name: str | None = None  # where the base came from, for adapters to record
        self.exact_base_sha256: str | None = None  # of weights that were rounded when loaded
        self.kept_adapter_fields: Mapping[str, Any] = MappingProxyType({})
        self.loading_notes: list[str] = []
        """What a user should know of how the last checkpoint was taken, a line each."""

    def build(self, input_shape=None):
        """Creates every weight; no data or shape is needed."""
        self.build_parts()
        if not left_out():
            self.start_adapter()

    def build_parts(self) -> None:
        """Creates the weights of the parts."""
        self.transformer.build((None, None))

    def start_adapter(self) -> None:
        """Has the model's own adapter begin from the base as it is now, where it goes by that.

        It is called where a base is loaded; call it where you assign the base's weights yourself.
        """
        starting.start(self)

    @property
    def rematerialize(self) -> bool:
        """Whether training computes each block again for its gradient, which saves memory."""
        return self.transformer.rematerialize

    @rematerialize.setter
    def rematerialize(self, value: bool) -> None:
        self.transformer.rematerialize = value

    def gate_of_pass(self, gate: Any = None) -> tf.Tensor | Mixture | None:
        """What a pass multiplies the updates by: what it is given, or the model's own.

        Args:
            gate: one number, or [B], a number a row, which may be [B, 1, 1] too: what is chosen
                is multiplied by it. Or from `rows_gate`: adapters of its own for each row.

        Returns:
            Float32, [] or [B, 1, 1]; a Mixture where adapters were added, or rows have their own;
            None for a pass without updates.

        Raises:
            UserError: a gate is given, and has another shape, or the model has no updates, or they
                are merged.
        """
        if gate is None:
            return self.gate.value() if self.gate else None
        if self.gate is None:
            raise UserError(f"a gate needs a model with LoRA: pass lora={EXAMPLE}")
        self._require_unmerged("a gate")
        self._require_no_own_weights("a gate")
        gate = tf.cast(gate, tf.float32)
        shape = gate.shape.as_list()
        if self.gate.added and len(shape) == 2 and shape[1] == len(self.gate.names):
            return self.gate.of_rows(gate)
        if len(shape) not in (0, 1, 3) or shape[1:] not in ([], [1, 1]):
            raise UserError(
                "a gate is one number, or one a row, [B] or [B, 1, 1], or what rows_gate() gives "
                f"for these rows, not {shape}"
            )
        gate = tf.reshape(gate, [-1, 1, 1]) if shape else gate
        return self.gate.scaled(gate) if self.gate.added else gate

    def extend(self, inputs: Inputs, cache: Cache, gate=None) -> tuple[tf.Tensor, Cache]:
        """Hidden states [B, T, width] of tokens that continue those in a cache, and the new cache.

        Args:
            inputs: the tokens, with their mask; the cache must have room for them.
            cache: from `empty_cache`, or what came of an earlier call.
            gate: see `gate_of_pass`.
        """
        return self.transformer.extend(inputs, cache, self.gate_of_pass(gate))

    def empty_cache(self, batch_size: int, slots: int) -> Cache:
        """A cache with room for `slots` tokens a row."""
        return self.transformer.empty_cache(batch_size, slots)

    def base_weights(self) -> dict[str, keras.Variable]:
        """The base's variables by their names in files, without prefix."""
        table = self.family.weights(self.transformer.config)
        return {stored.name: follow(self.transformer, stored.path) for stored in table}

    def own_weights(self) -> dict[str, keras.Variable]:
        """The base's variables that its own adapter tunes, by their names in files."""
        names = self.lora.own_names(self.config) if self.lora else []
        if not names:
            return {}
        there = {**self.base_weights(), **self.untied_weights()}
        if missing := [name for name in names if name not in there]:
            raise UserError(f"modules_to_save: this model has no {missing[0].rpartition('.')[0]}")
        return {name: there[name] for name in names}

    def lora_layers(self) -> dict[str, LoRADense]:
        """The adapted layers by their name in the base, such as "h.0.attn.c_attn"."""
        adapted = {}
        for number, block in enumerate(self.transformer.blocks):
            for target, place in self.family.lora_targets.items():
                layer = follow(block, place)
                if layer.update is not None:
                    name = self.family.in_block(target)
                    adapted[f"{self.family.block_prefix}{number}.{name}"] = layer
        return adapted

    def lora_weights(self) -> dict[str, keras.Variable]:
        """The updates' variables by their names in adapters, which hold them transposed."""
        variables: dict[str, keras.Variable] = {}
        for name, layer in self.lora_layers().items():
            parts = layer.factors().variables()
            variables |= {f"{name}.{part}": variable for part, variable in parts.items()}
        return variables

    def start_weights(self) -> dict[str, keras.Variable]:
        """What its own adapter began as, where that is a part of the base's kernels."""
        return {
            f"{name}.{part}": variable
            for name, layer in self.lora_layers().items()
            for part, variable in layer.factors().start_weights().items()
        }

    @property
    def holds_rounded(self) -> bool:
        """Whether the base is held in a type that rounds float32 weights."""
        return self.transformer.variable_dtype not in ("float32", "float64")

    def _require_unmerged(self, what: str) -> None:
        if self.gate and self.gate.merged:
            raise UserError(f"{what} on a merged model: call unmerge() first")

    def _require_no_own_weights(self, what: str) -> None:
        if self.gate and self.gate.own_weights:
            raise UserError(
                f"{what} cannot choose by row or by half an adapter that tunes weights of the base "
                "(bias, modules_to_save): set_adapter chooses it for all rows"
            )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "config": self.config.to_dict(),
            "lora": self.lora.to_dict() if self.lora else None,
            "name": self.name,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
        }
