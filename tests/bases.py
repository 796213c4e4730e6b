"""Small bases with tokenizers of their own, of the two kinds that there are."""

import json
from typing import Any

import keras
import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors, trainers

from gpt2_tuning.data.file_tokenizer import read_tokenizer
from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.models.gpt2_model import GPT2Model

TEXTS = ["The tide comes in, and the tide goes out again.", "Ebbe und Flut, Tag für Tag — 潮"] * 20
BYTES, MARKED = "byte-level", "metaspace"
"""Qwen's kind, which begins no text with a token, and Llama's, which begins all with <s>."""
KINDS = (BYTES, MARKED)


def write_tokenizer(directory, kind, **changes):
    """Trains one and writes its two files; `changes` are fields of tokenizer_config.json."""
    directory.mkdir(parents=True, exist_ok=True)
    if kind == BYTES:
        tokenizer = tokenizers.Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=400,
            initial_alphabet=alphabet,
            special_tokens=["<|end|>", "<|im_start|>"],
            show_progress=False,
        )
        config: dict[str, Any] = {
            "eos_token": "<|end|>",
            "pad_token": "<|im_start|>",
            "bos_token": None,
        }
    else:
        tokenizer = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
             decoders.Strip(" ", 1, 0)]
        )  # fmt: skip
        own = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
        trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=own, show_progress=False)
        config = {
            "bos_token": {"content": "<s>", "__type": "AddedToken"},
            "eos_token": {"content": "</s>", "__type": "AddedToken"},
        }
    tokenizer.train_from_iterator(TEXTS, trainer)
    if kind == MARKED:
        start = [("<s>", tokenizer.token_to_id("<s>"))]
        tokenizer.post_processor = processors.TemplateProcessing("<s> $A", None, start)
    tokenizer.save(str(directory / "tokenizer.json"))
    content = {"tokenizer_class": "PreTrainedTokenizerFast", **config, **changes}
    (directory / "tokenizer_config.json").write_text(json.dumps(content))


def add_token(directory, token):
    """Adds a token of a user's own to a tokenizer."""
    path = str(directory / "tokenizer.json")
    tokenizer = tokenizers.Tokenizer.from_file(path)
    tokenizer.add_tokens([AddedToken(token)])
    tokenizer.save(path)


def write_base(directory, kind):
    """A GPT-2 of one layer with random weights and such a tokenizer."""
    write_tokenizer(directory / "tokenizer", kind)
    size = read_tokenizer(directory / "tokenizer").vocabulary
    config = GPT2Config(n_layer=1, n_embd=32, n_head=2, n_positions=1100, vocab_size=size)
    keras.utils.set_random_seed(0)
    model = GPT2Model(config)
    model.tokenizer = read_tokenizer(directory / "tokenizer")
    model.built_now().save_pretrained(directory / kind)
    return directory / kind
