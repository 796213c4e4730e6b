"""GPT-2 as a classifier."""

import keras

from gpt2_tuning.families import gpt2
from gpt2_tuning.models.classifier import Classifier


@keras.saving.register_keras_serializable(package="gpt2_tuning")
class GPT2Classifier(Classifier):
    """A Classifier that takes a GPT2Config."""

    only_family = gpt2.NAME
    config: gpt2.GPT2Config
