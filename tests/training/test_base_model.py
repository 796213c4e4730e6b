"""A base that cannot take the data is refused before anything is trained."""

import pytest
from prepared_sets import header

from gpt2_tuning.errors import UserError
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.models.gpt2_model import GPT2Model
from gpt2_tuning.options.training import TrainOptions
from gpt2_tuning.training.base_model import make_model


def test_base_with_fewer_ids_or_positions_than_the_data_is_refused(small_config, tmp_path):
    GPT2Model(small_config).built_now().save_pretrained(tmp_path)
    options = TrainOptions(pretrained=str(tmp_path), precision="float32")
    for changes, message in (
        ({}, "the model knows only 97 tokens, not the 50,257 of the data's tokenizer"),
        ({"seq_len": 65}, "the data's seq_len 65 is above the model's 64"),
    ):
        with pytest.raises(UserError) as error:
            make_model(GPT2Classifier, options, header(**changes), label_names=["no", "yes"])
        assert str(error.value) == message
