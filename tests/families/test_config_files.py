"""What config.json says of a base that is written here, and how one that differs is refused."""

import json

import pytest

from gpt2_tuning.errors import UserError
from gpt2_tuning.families import known
from gpt2_tuning.models.language_model import LanguageModel

FIELDS = {
    **{"vocab_size": 61, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": 3},
}


def model_of(family, **changes):
    return LanguageModel(known.config_of({"model_type": family, **FIELDS, **changes}))


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2"])
def test_what_transformers_would_mistake_where_it_is_null_is_left_out(family, tmp_path):
    """A `head_dim` of null for a size, and a Mistral with `layer_types` for a Ministral."""
    model = model_of(family)
    model.save_pretrained(tmp_path)  # which builds it, too
    fields = json.loads((tmp_path / "config.json").read_text())
    assert not {"head_dim", "layer_types"} & set(fields)
    assert known.config_of(fields) == model.config


def test_a_base_of_other_windows_is_refused_in_the_words_of_its_config(tmp_path):
    model_of("mistral").save_pretrained(tmp_path)
    with pytest.raises(
        UserError, match=r"the sliding_window of each layer is \(3, 3\), the model's"
    ):
        model_of("mistral", sliding_window=4).load_weights_from(tmp_path)
