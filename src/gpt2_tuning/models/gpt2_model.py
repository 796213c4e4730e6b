"""GPT-2 without a head."""

import keras

from gpt2_tuning.families import gpt2
from gpt2_tuning.models.backbone import Backbone


@keras.saving.register_keras_serializable(package="gpt2_tuning")
class GPT2Model(Backbone):
    """A Backbone that takes a GPT2Config."""

    only_family = gpt2.NAME
    config: gpt2.GPT2Config
