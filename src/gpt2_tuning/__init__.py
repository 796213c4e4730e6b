"""Tune GPT-2 in Keras: one base model, three heads, full or LoRA tuning.

The public classes are imported on first use, so that reading flags or text needs no TensorFlow.
"""

import importlib
from typing import TYPE_CHECKING

from gpt2_tuning import startup

if TYPE_CHECKING:
    from gpt2_tuning.config import LoRAConfig
    from gpt2_tuning.data.datasets import (
        classification_dataset,
        instruction_dataset,
        pair_dataset,
        text_dataset,
    )
    from gpt2_tuning.data.file_tokenizer import read_tokenizer
    from gpt2_tuning.data.tokenizer import GPT2Tokenizer
    from gpt2_tuning.errors import UserError
    from gpt2_tuning.families.gpt2 import GPT2Config
    from gpt2_tuning.inference.classification import classify_pairs, classify_text
    from gpt2_tuning.inference.generation import generate_text, stream_text
    from gpt2_tuning.inference.generation_settings import Generation
    from gpt2_tuning.inference.sampling import Greedy, Sampler, Temperature, TopK, TopP
    from gpt2_tuning.models.backbone import Backbone
    from gpt2_tuning.models.classifier import Classifier
    from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
    from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel
    from gpt2_tuning.models.gpt2_model import GPT2Model
    from gpt2_tuning.models.language_model import LanguageModel
    from gpt2_tuning.training.objectives import Accuracy, CrossEntropy, Perplexity

startup.set_defaults()

__version__ = "0.1.0"

_HOMES = {
    "GPT2Config": "families.gpt2",
    "LoRAConfig": "config",
    "UserError": "errors",
    "GPT2Tokenizer": "data.tokenizer",
    "read_tokenizer": "data.file_tokenizer",
    "Backbone": "models.backbone",
    "LanguageModel": "models.language_model",
    "Classifier": "models.classifier",
    "GPT2Model": "models.gpt2_model",
    "GPT2LanguageModel": "models.gpt2_language_model",
    "GPT2Classifier": "models.gpt2_classifier",
    "Accuracy": "training.objectives",
    "CrossEntropy": "training.objectives",
    "Perplexity": "training.objectives",
    "classification_dataset": "data.datasets",
    "instruction_dataset": "data.datasets",
    "pair_dataset": "data.datasets",
    "text_dataset": "data.datasets",
    "classify_pairs": "inference.classification",
    "classify_text": "inference.classification",
    "generate_text": "inference.generation",
    "stream_text": "inference.generation",
    "Generation": "inference.generation_settings",
    "Greedy": "inference.sampling",
    "Sampler": "inference.sampling",
    "Temperature": "inference.sampling",
    "TopK": "inference.sampling",
    "TopP": "inference.sampling",
}

__all__ = [
    "Accuracy",
    "Backbone",
    "Classifier",
    "CrossEntropy",
    "GPT2Classifier",
    "GPT2Config",
    "GPT2LanguageModel",
    "GPT2Model",
    "GPT2Tokenizer",
    "Generation",
    "Greedy",
    "LanguageModel",
    "LoRAConfig",
    "Perplexity",
    "Sampler",
    "Temperature",
    "TopK",
    "TopP",
    "UserError",
    "classification_dataset",
    "classify_pairs",
    "classify_text",
    "generate_text",
    "instruction_dataset",
    "pair_dataset",
    "read_tokenizer",
    "stream_text",
    "text_dataset",
]

_IN_KERAS_FILES = sorted(
    home for home in set(_HOMES.values()) if home.startswith("models.") or "objectives" in home
)
"""Where the classes are that a `.keras` file may hold; Keras knows those that were imported."""


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _HOMES[name] in _IN_KERAS_FILES:
        for home in _IN_KERAS_FILES:
            importlib.import_module(f"{__name__}.{home}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
