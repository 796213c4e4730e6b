"""GPT-2 as a language model."""

import keras

from gpt2_tuning.families import gpt2
from gpt2_tuning.models.language_model import LanguageModel


@keras.saving.register_keras_serializable(package="gpt2_tuning")
class GPT2LanguageModel(LanguageModel):
    """A LanguageModel that takes a GPT2Config."""

    only_family = gpt2.NAME
    config: gpt2.GPT2Config
