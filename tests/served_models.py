"""A language model with adapters, and what an engine makes of rows, for the tests of serving."""

import dataclasses
import queue

import numpy as np
from lora_models import SMALL, small_model

from gpt2_tuning.data.chat_template import DEFAULT, ChatTemplate
from gpt2_tuning.data.prompts import DOLLY, Template
from gpt2_tuning.data.tokenizer import GPT2Tokenizer
from gpt2_tuning.inference.generation import generate
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel
from gpt2_tuning.serving.engine import Engine
from gpt2_tuning.serving.served import Named

CONFIG = dataclasses.replace(SMALL, n_embd=16, n_positions=64, vocab_size=50257)
LORA = {"rank": 2, "alpha": 8, "targets": ["attn.c_attn", "mlp.c_proj"]}
TOKENIZER = GPT2Tokenizer()


def with_adapters():
    """A model of random weights with the adapters `default`, `tone` and `facts`."""
    model = small_model(GPT2LanguageModel, CONFIG, LORA)
    random = np.random.default_rng(1)
    for name in ("tone", "facts"):
        model.add_adapter(name, LORA)
        for variable in model.gate.added[name].weights().values():
            variable.assign(random.normal(0, 0.3, variable.shape))
    return model


def names_of():
    """The models of `with_adapters` as they are served, with templates of both kinds."""
    models = [
        Named("run", "default", Template("dolly", DOLLY)),
        Named("base", None),
        Named("tone", "tone"),
        Named("talk", "facts", ChatTemplate("default", DEFAULT, TOKENIZER)),
    ]
    return {one.name: one for one in models}


def alone(model, asked):
    """What `generate` says for a row by itself."""
    adapters = None if model.gate is None else [asked.adapter]
    given = {"generation": asked.generation, "adapters": adapters}
    [found] = generate(model, [asked.prompt], first_number=asked.number, **given)
    return found


class Heard:
    """A listener that keeps what it is told."""

    def __init__(self, then=None):
        self.pieces, self._then = [], then
        self._ended: queue.Queue = queue.Queue()

    def __call__(self, piece):
        self.pieces.append(piece)
        if self._then:
            self._then()
        if piece.ended:
            self._ended.put(piece)

    def wait(self):
        """The last piece, once it is there."""
        return self._ended.get(timeout=120)

    @property
    def text(self):
        """All that was said."""
        return "".join(piece.text for piece in self.pieces)


def engine_of(model, **arguments):
    """A running engine."""
    return Engine(model, TOKENIZER, **arguments)
