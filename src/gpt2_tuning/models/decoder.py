"""A decoder from token ids to hidden states: embeddings, blocks, a last normalisation.

Which family it is of says its config; no family's name or word is in it.
"""

import dataclasses
from collections.abc import Sequence

import keras
import tensorflow as tf

from gpt2_tuning.data.inputs import Inputs
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.decoder_config import DecoderConfig
from gpt2_tuning.models import kernels
from gpt2_tuning.models.attention import cache_type
from gpt2_tuning.models.block import Block, DropoutSeeds
from gpt2_tuning.models.block_loop import BlockLoop, alike
from gpt2_tuning.models.cache import Cache, positions_of_slots, visible_slots
from gpt2_tuning.models.device_choices import device_choices
from gpt2_tuning.models.initial import BaseNormal
from gpt2_tuning.models.inputs import positions_of, visible_tokens, within_window
from gpt2_tuning.models.keras_types import Layer
from gpt2_tuning.models.lora import Updates
from gpt2_tuning.models.mixture import Mixture, gate_of_block
from gpt2_tuning.models.norm import NORMS
from gpt2_tuning.models.replicas import of_replica
from gpt2_tuning.models.rotary import Rotation, rotation_of
from gpt2_tuning.models.seen import Seen, seen_of


class Decoder(Layer):
    """Token ids to hidden states.

    Args:
        config: what it computes.
        updates: for each block the low-rank updates of its dense layers, by their place in it; none
            for a decoder without.
    """

    rematerialize: bool = False
    """Whether training keeps the input of each block alone and computes the block again for its
    gradient (Chen et al. 2016, https://arxiv.org/abs/1604.06174)."""

    def __init__(self, config: DecoderConfig, updates: Sequence[Updates] = (), **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.config = config
        dtype = self.dtype_policy
        self.tokens = embedding(config.vocabulary, config, dtype, "tokens")
        if config.place == "learned":
            self.places = embedding(config.positions, config, dtype, "places")
        self.seeds = keras.random.SeedGenerator()
        self.blocks = [
            Block(config, own, dtype=dtype, name=f"block_{number}")
            for number, own in enumerate(updates or [{}] * config.layers)
        ]
        self.updates_alike = all(own == updates[0] for own in updates)
        self.norm = NORMS[config.norm](config.norm_epsilon, dtype=dtype, name="norm")

    def build(self, input_shape=None):
        """Creates every weight; no data or shape is needed."""
        hidden = (None, None, self.config.width)
        self.tokens.build((None, None))
        if self.config.place == "learned":
            self.places.build((None, None))
        for block in self.blocks:
            block.build(hidden)
        self.norm.build(hidden)

    def compute_output_shape(self, input_shape):
        """[B, T] of the token ids, or a dict that has it, to [B, T, width]."""
        rows = input_shape["token_ids"] if isinstance(input_shape, dict) else input_shape
        return (*rows, self.config.width)

    def call(self, inputs: Inputs, training=None, at=None, gate=None):
        """Hidden states [B, T, width] in the compute type.

        Args:
            inputs: what is computed.
            training: whether dropout is on.
            at: int32 [B, K], the places whose hidden states are wanted, which are then [B, K,
                width]: the last block computes no others. None is all of them.
            gate: of the low-rank updates, as LoRADense's; None computes none of them. Or a Mixture.

        Raises:
            UserError: T is above `positions`. Packed rows may be longer: positions restart in each
                segment.
        """
        tokens = inputs["token_ids"].shape[1] or 0
        if "segment_ids" not in inputs and tokens > self.config.positions:
            raise UserError(f"{tokens} tokens are more than the model's {self.config.positions}")
        positions, seen = self.seen_in_rows(inputs)
        seed = of_replica(tf.cast(self.seeds.next(), tf.int32)) if training else None
        x, rotation = self.embedded(inputs, positions, seed)
        looped = self.in_a_loop(gate, at, seen) if training else 0
        if looped:
            blocks, again = self.blocks[:looped], self.rematerialize
            x = BlockLoop(blocks, seen[:looped], seed, gate, rotation, again)(x)
        for number in range(looped, len(self.blocks)):
            block, visible = self.blocks[number], seen[number]
            # The embeddings' dropout has the seed itself, so blocks begin with the next.
            seeds = DropoutSeeds.of_block(seed, number + 1)
            wanted = at if block is self.blocks[-1] else None
            own = gate_of_block(gate, number)
            if training and self.rematerialize:
                x = computed_again(block, visible, seeds, own, wanted, rotation)(x)
            else:
                x = block(x, visible=visible, seeds=seeds, gate=own, at=wanted, rotation=rotation)
        return self.norm(x, compiled=bool(training))

    def in_a_loop(self, gate, at, seen) -> int:
        """How many blocks, from the first on, training computes in a loop; 0 is none.

        None where the device's choices have no loop, where adapters that were added have weights
        of their own in some blocks, and where blocks differ in their updates or in the type of
        their weights, or in their windows while attention is computed block by block. The last is
        left out with `at`, since then it computes less than the others.
        """
        count = len(self.blocks) - (at is not None)
        fit = device_choices().blocks_in_a_loop and not isinstance(gate, Mixture)
        fit &= not isinstance(seen[0], Seen) or len(set(self.windows)) == 1
        return count if fit and count > 1 and self.updates_alike and alike(self.blocks) else 0

    def extend(self, inputs: Inputs, cache: Cache, gate=None) -> tuple[tf.Tensor, Cache]:
        """Hidden states [B, T, width] of tokens that continue those in a cache, and the new cache.

        Args:
            inputs: the tokens, with their mask; the cache must have room for them.
            cache: what was computed before.
            gate: as for `call`.
        """
        count = tf.shape(inputs["token_ids"])[1]
        mask = cache.masked(inputs["attention_mask"])
        visible = visible_slots(mask, cache.filled, count)
        positions = positions_of(visible)
        x, rotation = self.embedded(inputs, positions, None)
        slots = positions_of_slots(mask) if any(self.config.windows) else None
        seen = self.seen_by_layers(visible, positions, slots)
        presents = []
        pasts = zip(self.blocks, seen, cache.keys, cache.values, strict=True)
        for number, (block, visible, *past) in enumerate(pasts):
            own = gate_of_block(gate, number)
            x, present = block.extend(x, visible, past, cache.write, own, rotation)
            presents.append(present)
        keys, values = zip(*presents, strict=True)
        return self.norm(x), type(cache)(keys, values, mask, cache.filled + count)

    def embedded(self, inputs: Inputs, positions, seed) -> tuple[tf.Tensor, Rotation | None]:
        """What the first block reads, and by how much all of them rotate queries and keys.

        Args:
            inputs: what is computed.
            positions: int32 [B, T], of its tokens.
            seed: int32 [2], of dropout; None in inference.
        """
        config = self.config
        x, rotation = self.tokens(inputs["token_ids"]), None
        if config.rotary:
            rotation = rotation_of(positions, config.rotary, config.rotated)
        else:
            x += self.places(positions)
        rate = config.dropouts.embedding
        return kernels.dropout(x, seed, rate=rate, compiled=seed is not None), rotation

    def seen_in_rows(self, inputs: Inputs) -> tuple[tf.Tensor, list[tf.Tensor | Seen]]:
        """The positions of rows' tokens, int32 [B, T], and what each layer's tokens see."""
        choices, length = device_choices(), inputs["token_ids"].shape[1]
        if choices.in_blocks(length):
            seen = seen_of(inputs, choices.attention_block)
            by_window = {
                window: dataclasses.replace(seen, window=window) for window in set(self.windows)
            }
            return seen.queries.positions, [by_window[window] for window in self.windows]
        visible = visible_tokens(inputs)
        positions = positions_of(visible)
        return positions, self.seen_by_layers(visible, positions, positions)

    def seen_by_layers(self, visible, queries, keys) -> list[tf.Tensor | Seen]:
        """What each layer's tokens see of `visible`, which is before any window.

        Args:
            visible: bool [B, T, S].
            queries: int32 [B, T], the positions of the tokens that see.
            keys: int32 [B, S], of those that are seen; None where no layer has a window.
        """
        seen = {
            window: within_window(visible, queries, keys, window) if window else visible
            for window in dict.fromkeys(self.windows)
        }
        return [seen[window] for window in self.windows]

    @property
    def windows(self) -> tuple[int | None, ...]:
        """How many of the newest tokens each layer's see; None is all of them."""
        return self.config.windows or (None,) * self.config.layers

    def empty_cache(self, batch_size: int, slots: int) -> Cache:
        """A cache with room for `slots` tokens a row."""
        shape = [batch_size, self.config.kv_heads, slots, self.config.head_size]
        dtype = cache_type(tf.as_dtype(self.compute_dtype))
        nothing = tuple(tf.zeros(shape, dtype) for _ in self.blocks)
        return Cache(nothing, nothing, tf.zeros([batch_size, slots], tf.int32), tf.constant(0))


def computed_again(block: Block, visible, seeds: DropoutSeeds, gate, at=None, rotation=None):
    """The block as a function of its input that keeps nothing else for its gradient.

    The seeds are given from outside, so the second pass drops what the first did.
    """
    return tf.recompute_grad(
        lambda x: block(x, visible=visible, seeds=seeds, gate=gate, at=at, rotation=rotation)
    )


def embedding(rows: int, config: DecoderConfig, dtype, name: str) -> keras.layers.Embedding:
    """A table of `rows` vectors."""
    return keras.layers.Embedding(
        rows,
        config.width,
        embeddings_initializer=BaseNormal(stddev=config.initial_spread),
        dtype=dtype,
        name=name,
    )
