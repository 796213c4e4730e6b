"""How much memory a training run takes, worked out from its shapes.

What is counted is what the model's own code keeps: for its gradient an elementwise part keeps its
inputs alone (models/kernels.py), dropout nothing, the loss a chunk of its logits.
"""

import dataclasses
import math

from gpt2_tuning.config import LoRAConfig
from gpt2_tuning.families import known
from gpt2_tuning.families.decoder_config import GATED
from gpt2_tuning.families.family import FamilyConfig
from gpt2_tuning.models.device_choices import CPU, GPU, DeviceChoices
from gpt2_tuning.models.products import product_type

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
OPTIMIZER_BYTES = {"adamw": 8, "adafactor": 4}
"""For every tuned weight."""
RUNTIME = 1.0e9
"""TensorFlow itself, imported and with its step compiled, on a CPU."""
TEMPORARIES = 3
"""Arrays of a layer's widest kind that exist at a time while its gradient is computed."""
KEPT_BY_XLA = (1.7, 8)
"""Numbers a layer keeps for its gradient beside those that the code asks for, where XLA compiles
the whole step: for each attention weight, and for each number of a layer's input. Fitted to two
LoRA steps of 124M in bfloat16 on an H200: 1,372 MiB at 8 x 256 tokens, 7,598 at 8 x 1,024, both
with all scores of a layer at once; in blocks none of them is kept.
"""


@dataclasses.dataclass(frozen=True)
class Setting:
    """What decides on the memory of a step, per device."""

    config: FamilyConfig
    lora: LoRAConfig | None
    rows: int
    """Rows computed at a time: the batch over devices and accumulation."""
    length: int
    """Tokens of a row."""
    precision: str = "float32"
    optimizer: str = "adamw"
    rematerialize: bool = False
    gpu: bool = False
    """Whether what TensorFlow's allocator has on a GPU is asked for, or a process's memory."""

    @property
    def choices(self) -> DeviceChoices:
        """How the device computes."""
        return GPU if self.gpu else CPU

    @property
    def scores(self) -> int:
        """Attention weights of a layer that exist at a time."""
        heads = self.rows * self.config.decoder.heads
        if self.choices.in_blocks(self.length):
            return heads * self.choices.attention_block**2
        return heads * self.length**2


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes, by what they are for."""

    runtime: float
    weights: float
    optimizer: float
    gradients: float
    activations: float
    logits: float

    @property
    def total(self) -> float:
        """At the peak.

        Gradients grow while the activations are given back, but what is given back has other
        sizes, so both count. The clipped gradients come when nothing else is left.
        """
        passing = max(self.activations + self.logits, self.gradients)
        return self.runtime + self.weights + self.optimizer + self.gradients + passing

    @property
    def tensors(self) -> float:
        """The same without TensorFlow itself."""
        return self.total - self.runtime


def memory_of(setting: Setting) -> Memory:
    """The memory of one training step of a language model, the dearest of the heads."""
    config, size = setting.config.decoder, BYTES[setting.precision]
    trained = trained_parameters(setting)
    base = config.parameters
    if setting.lora and not setting.lora.tunes_base:
        weights = base * size + trained * 4.0
    else:
        # Of tuned weights that are held in float32 the matrix products take rounded copies.
        weights = base * 4.0 + (base * size if size < 4 else 0)
    multiplied = size if setting.gpu else product_type(setting.precision).size
    at_once = min(setting.choices.logit_rows[multiplied], setting.rows * setting.length)
    chunk = at_once * config.vocabulary
    table = config.vocabulary * config.width
    logits = chunk * (4 * 4 + (size if size < 4 else 0))
    emulated = size < multiplied
    if emulated:
        logits += 4 * table  # the head's products are float32 ones
    if setting.lora is None:
        # The gradients of the head and of the embedding; where these are one, their sum too.
        logits += (3 if config.tied_head else 2) * 4 * table
    return Memory(
        runtime=0.0 if setting.gpu else RUNTIME,
        weights=weights,
        optimizer=float(OPTIMIZER_BYTES[setting.optimizer] * trained),
        gradients=4.0 * trained,
        activations=float(
            size * kept_numbers(setting) + (size + 4 * emulated) * passing_numbers(setting)
        ),
        logits=float(logits),
    )


def trained_parameters(setting: Setting) -> int:
    """Those that training changes."""
    if setting.lora is None:
        return setting.config.decoder.parameters
    adapted = adapted_layers(setting.config, setting.lora)
    lengths = sum(outputs for _, _, outputs in adapted) if setting.lora.use_dora else 0
    updates = lengths + sum(rank * (inputs + outputs) for rank, inputs, outputs in adapted)
    return updates + own_parameters(setting.config, setting.lora)


def own_parameters(config: FamilyConfig, lora: LoRAConfig) -> int:
    """Those of the base that are tuned with the updates, a head that is apart among them."""
    if not lora.tunes_base:
        return 0
    decoder = config.decoder
    paths = {stored.name: stored.path for stored in known.family_of(config).weights(decoder)}
    head = (decoder.vocabulary, decoder.width)
    shapes = [
        decoder.shape_of(paths[name]) if name in paths else head for name in lora.own_names(config)
    ]
    return sum(map(math.prod, shapes))


def adapted_layers(config: FamilyConfig, lora: LoRAConfig) -> list[tuple[int, int, int]]:
    """Rank, inputs and outputs of each layer that LoRA adapts."""
    shapes = config.decoder.dense
    blocks = lora.updates_in(config)
    return [(one.rank, *shapes[place]) for updates in blocks for place, one in updates.items()]


def kept_numbers(setting: Setting) -> float:
    """How many numbers the forward pass keeps for the gradients."""
    config, tokens = setting.config.decoder, setting.rows * setting.length
    width, shared = config.width, config.kv_heads * config.head_size
    # What norms read; query, key and value; what is activated, and what that multiplies.
    read = width if config.parallel else 2 * width
    into_mlp = (2 if config.mlp in GATED else 1) * config.mlp_width
    block: float = tokens * (read + config.attention_width + 2 * shared + into_mlp)
    if config.head_norms:
        block += tokens * (config.attention_width + shared)
    if setting.lora is None:
        # What the matrix products multiply: two normalised inputs, the mixed values, what the MLP
        # gives its last layer.
        block += tokens * (2 * width + config.attention_width + config.mlp_width)
    else:
        adapted = adapted_layers(setting.config, setting.lora)
        block += tokens * sum(inputs for _, inputs, _ in adapted) / config.layers
    if setting.gpu:
        block += KEPT_BY_XLA[1] * tokens * width
        if not setting.choices.in_blocks(setting.length):
            block += KEPT_BY_XLA[0] * setting.scores
    if setting.rematerialize:
        return config.layers * tokens * width + block
    return config.layers * block


def passing_numbers(setting: Setting) -> int:
    """How many numbers exist only while the gradient of the dearest part of a layer is computed.

    Where 16-bit numbers are multiplied as float32, each of them exists in both types.
    """
    widest = setting.rows * setting.length * setting.config.decoder.mlp_width
    return TEMPORARIES * max(widest, setting.scores)


def rows_at_a_time(batch_size: int, accumulation: int, devices: int = 1) -> int:
    """The rows a device computes together."""
    return math.ceil(batch_size / (accumulation * devices))
