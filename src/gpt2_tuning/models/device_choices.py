"""What is tuned for a kind of device: two sets of choices, that of CPUs and that of GPUs.

Both compute the same. They differ in what is compiled together, in how much is computed at a time,
and in the form in which attention is computed. The same on both are what is recomputed for a
gradient, which is whatever is elementwise and never a large product, and where dropout's numbers
come from, a hash: within what XLA fuses it costs a few integer operations, and keeps no mask.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class DeviceChoices:
    """One set of them."""

    whole: bool
    """Whether XLA compiles whole steps and loops, for each shape of batches by itself. Else it
    compiles elementwise parts alone, and the large products are oneDNN's."""
    logit_rows: Mapping[int, int]
    """Rows of logits that exist at one time while a loss is computed, by the bytes of a logit."""
    attention_block: int
    """Tokens of a block of attention's scores, where they exist block by block."""
    attention_blocks_from: int | None
    """The shortest rows whose attention is computed block by block; None where none is. Dropout of
    attention's weights takes others of the hash's numbers there."""

    blocks_in_a_loop: bool = False
    """Whether training computes blocks that are alike in a loop over their stacked weights, so that
    XLA compiles one of them (block_loop.py). Else all stand one after the other."""

    def in_blocks(self, tokens: int | None) -> bool:
        """Whether the attention of rows of so many tokens is; None is a length of any size."""
        least = self.attention_blocks_from
        return least is not None and tokens is not None and tokens >= least


CPU = DeviceChoices(
    whole=False,
    # 128 x 50,257 float32 are 26 MB, and a few times that passes while their gradient is computed.
    # More rows are no faster in float32; in bfloat16 256 take 0.95 of the time of a LoRA step that
    # 128 take, and 120 MB more.
    logit_rows={4: 128, 2: 192},
    attention_block=512,
    attention_blocks_from=None,
)
GPU = DeviceChoices(
    whole=True,
    # Products that fill a GPU. More rows would take a card's memory where vocabularies are large:
    # for each logit about 18 bytes are there while its gradient is computed.
    logit_rows={4: 1024, 2: 1024},
    attention_block=512,
    attention_blocks_from=1024,
)

_chosen: list[DeviceChoices] = []


def device_choices() -> DeviceChoices:
    """The set of this process: that of GPUs where one is visible."""
    if _chosen:
        return _chosen[-1]
    return GPU if tf.config.get_visible_devices("GPU") else CPU


@contextlib.contextmanager
def choosing(choices: DeviceChoices) -> Iterator[None]:
    """Inside the block what is traced follows these choices, on whatever device: for tests."""
    _chosen.append(choices)
    try:
        yield
    finally:
        _chosen.pop()
