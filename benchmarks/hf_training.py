"""PyTorch's side: the model to tune, the loop around it, whether its products are fast enough."""

import contextlib
from collections.abc import Callable
from typing import Any

import peft
import torch
import transformers

from benchmarks import common
from benchmarks.common import Spec
from benchmarks.worker import TooSlow, seconds_of

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TARGETS = {common.GPT2: r".*\.attn\.(c_attn|c_proj)", common.LLAMA: ["q_proj", "v_proj"]}
"""The same layers as ours; the bare suffix c_proj would hit the MLP's too."""
WIDTH = 768
BLOCK_WEIGHTS = 12 * 12 * WIDTH**2
"""Of the products of all blocks: each multiplies every token once, forward."""


def check_speed(spec: Spec, tokens: int, passes: int) -> None:
    """Raises TooSlow where the products of the warm-up alone would take longer than is waited for.

    PyTorch multiplies bfloat16 on a CPU without bfloat16 units a hundred times slower than float32.
    One small product shows it; otherwise every such variant would be waited for to no end.

    Args:
        spec: of a variant that computes in bfloat16.
        tokens: how many of them the warm-up computes, at least.
        passes: 1 for the forward pass, 2 with the gradients of the activations.
    """
    if DEVICE != "cpu":
        return
    rows = 64
    left, right = (torch.randn(size).bfloat16() for size in ((rows, WIDTH), (WIDTH, 4 * WIDTH)))
    product = torch.compile(torch.mm) if "compile" in spec.words else torch.mm
    product(left, right)
    seconds = min(seconds_of(lambda: product(left, right)) for _ in range(3))
    rate = rows * WIDTH * 4 * WIDTH / seconds  # multiplications a second
    needed = tokens * passes * BLOCK_WEIGHTS / rate
    if needed > spec.timeout:
        raise TooSlow(
            f"its bfloat16 product runs at {2e-9 * rate:.1f} GFLOP/s, so those of its warm-up "
            f"would take {needed:.0f} s"
        )


def training_model(spec: Spec) -> torch.nn.Module:
    """The model to tune, with PEFT's LoRA or whole."""
    settings, classes = spec.settings, spec.settings.get("classes", 0)
    dtype = torch.bfloat16 if "weights" in spec.words else torch.float32
    kind, task = transformers.AutoModelForCausalLM, "CAUSAL_LM"
    arguments: dict[str, Any] = {}
    if classes:
        kind, task = transformers.GPT2ForSequenceClassification, "SEQ_CLS"
        arguments = {"num_labels": classes, "pad_token_id": common.END_OF_TEXT}
    model = kind.from_pretrained(spec.base, dtype=dtype, use_cache=False, **arguments)
    if settings["tuning"] == "lora":
        lora = settings["lora"]
        config = peft.LoraConfig(
            task_type=task,
            r=lora["rank"],
            lora_alpha=lora["alpha"],
            lora_dropout=0.0,
            target_modules=TARGETS[spec.family],
            fan_in_fan_out=spec.family == common.GPT2,
        )
        model = peft.get_peft_model(model, config)
    return model.to(DEVICE)


class Trainer:
    """The loop that transformers documents for training without its Trainer."""

    def __init__(self, spec: Spec):
        self.bare = training_model(spec)
        self.model = torch.compile(self.bare) if "compile" in spec.words else self.bare
        self.autocast = "autocast" in spec.words
        self.weights = [weight for weight in self.bare.parameters() if weight.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.weights, common.LEARNING_RATE, weight_decay=common.WEIGHT_DECAY, fused=True
        )

    def loss(self, model, batch):
        """The mean over the supervised tokens, or rows."""
        context: Any = contextlib.nullcontext()
        if self.autocast:
            context = torch.autocast(DEVICE, dtype=torch.bfloat16)
        with context:
            return model(**batch).loss

    def step(self, batch) -> None:
        """One update."""
        self.bare.train()
        self.loss(self.model, batch).backward()
        torch.nn.utils.clip_grad_norm_(self.weights, common.MAX_GRAD_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def loss_without_dropout(self, batch) -> float:
        """Of the weights as they are."""
        self.bare.eval()
        with torch.no_grad():
            return self.loss(self.bare, batch).item()


def synchronized(action: Callable[..., object], *arguments) -> None:
    """Runs the action to its end, on a GPU too."""
    action(*arguments)
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def peak_mb() -> float:
    """Of the GPU, or of the process without one."""
    return torch.cuda.max_memory_allocated() / 2**20 if DEVICE == "cuda" else common.peak_mb()
