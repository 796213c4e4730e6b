"""What holds of every family's model, whatever it is made of."""

import json
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from bases import MARKED, write_tokenizer
from samples import inputs_of

from gpt2_tuning.data.file_tokenizer import TEMPLATE_FILE, read_tokenizer
from gpt2_tuning.errors import UserError
from gpt2_tuning.families import known
from gpt2_tuning.families.gpt2 import END_OF_TEXT
from gpt2_tuning.formats.adapters import base_fingerprint, read_adapter_config
from gpt2_tuning.formats.directory import read_checkpoint
from gpt2_tuning.formats.huggingface import sha256_of_base
from gpt2_tuning.models.classifier import Classifier
from gpt2_tuning.models.language_model import LanguageModel
from gpt2_tuning.models.rotary import frequencies

pytestmark = pytest.mark.usefixtures("all_bits")

COMMON = {"vocab_size": 61, "hidden_size": 32, "max_position_embeddings": 32}
GATED = {
    **COMMON,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "initializer_range": 0.2,
}
SCALED = {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}
WINDOW = {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1}
FIELDS: dict[str, dict[str, Any]] = {
    "gpt_neo": {
        **COMMON,
        **{"num_layers": 2, "num_heads": 4, "window_size": 3, "initializer_range": 0.2},
        "attention_types": [[["global", "local"], 1]],
    },
    "gpt_neox": {
        **COMMON,
        **{"intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2},
        **{"rotary_pct": 0.5, "initializer_range": 0.2},
    },
    "llama": {**GATED, **SCALED, "attention_bias": True, "mlp_bias": True},
    "mistral": {**GATED, "sliding_window": 3},
    "qwen2": {**GATED, **WINDOW, "tie_word_embeddings": True},
    "qwen3": {**GATED, **WINDOW},
}
ABSENT = object()
LORA = {"rank": 2, "alpha": 4, "targets": ["all-linear"]}
ROWS = [[1, 2, 3, 4, 5, 6, 7], [8, 9, 10], [11, 12, 13, 14, 15]]


def config_of(family, **changes):
    fields = {"model_type": family, **FIELDS[family], **changes}
    return known.config_of({name: value for name, value in fields.items() if value is not ABSENT})


def made(family, model_class=LanguageModel, lora=None, **arguments):
    """A model of which every weight matters."""
    model = model_class(config_of(family), lora=lora, **arguments).built_now()
    rng = np.random.default_rng(1)
    for variable in model.weights:
        variable.assign(variable + rng.normal(0, 0.2, variable.shape))
    return model


def logits_by_row(model):
    """Each row's logits, computed by itself."""
    return [np.asarray(model(inputs_of([row])))[0] for row in ROWS]


@pytest.mark.parametrize("family", FIELDS)
def test_logits_are_the_same_padded_packed_and_cached(family):
    model, lengths = made(family), [len(row) for row in ROWS]
    expected = logits_by_row(model)
    padded = np.asarray(model(inputs_of(ROWS)))
    left = {
        name: tf.reverse(value, [1]) for name, value in inputs_of([r[::-1] for r in ROWS]).items()
    }
    on_the_left = np.asarray(model(left))
    packed = np.asarray(
        model(
            {
                "token_ids": tf.constant([[token for row in ROWS for token in row]]),
                "segment_ids": tf.constant([np.repeat([1, 2, 3], lengths)], tf.int32),
            }
        )
    )[0]
    hidden, cache = [], model.empty_cache(len(ROWS), 9)
    for first, last in ((0, 4), (4, 5), (5, 7)):
        part, cache = model.extend({n: v[:, first:last] for n, v in left.items()}, cache)
        hidden.append(part)
    cached = np.asarray(tf.concat(hidden, 1) @ tf.transpose(model.table()))
    start = 0
    for row, (length, wanted) in enumerate(zip(lengths, expected, strict=True)):
        for found in (
            padded[row, :length],
            on_the_left[row, -length:],
            packed[start : start + length],
            cached[row, -length:],
        ):
            np.testing.assert_allclose(found, wanted, atol=2e-5 * np.abs(wanted).max())
        start += length


@pytest.mark.parametrize("family", FIELDS)
def test_a_window_looks_no_further_back_than_it_is_wide(family):
    if family in ("llama", "gpt_neox"):
        pytest.skip("has no window")
    windows = config_of(family).decoder.windows
    assert 3 in windows
    model = made(family)
    block = model.transformer.blocks[windows.index(3)]
    positions = tf.range(7)[tf.newaxis]
    causal = tf.range(7)[:, tf.newaxis] >= tf.range(7)
    seen = model.transformer.seen_by_layers(causal[tf.newaxis], positions, positions)
    seen = seen[windows.index(3)]
    _, rotation = model.transformer.embedded({"token_ids": positions}, positions, None)
    x = tf.random.stateless_normal([1, 7, 32], [0, 1])
    before = block(x, seen, rotation=rotation)
    for changed, last in ((3, 5), (4, 6)):
        other = tf.tensor_scatter_nd_update(x, [[0, changed]], tf.ones([1, 32]))
        differs = np.abs(before - block(other, seen, rotation=rotation))[0].max(axis=1) > 1e-6
        assert differs.tolist() == [changed <= place <= last for place in range(7)]


@pytest.mark.parametrize("family", FIELDS)
@pytest.mark.parametrize("model_class", [LanguageModel, Classifier])
def test_files_bring_back_every_bit(family, model_class, tmp_path):
    more = {"num_classes": 3} if model_class is Classifier else {}
    model = made(family, model_class, LORA, **more)
    model.save_pretrained(tmp_path / "base")
    model.save_adapter(tmp_path / "adapter")
    model.merge_and_export(tmp_path / "merged")
    lora, _ = read_adapter_config(tmp_path / "adapter")
    again = model_class.from_pretrained(tmp_path / "base", lora=lora)
    again.load_adapter(tmp_path / "adapter")
    assert again.config == model.config
    for one, other in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    inputs = inputs_of(ROWS)
    np.testing.assert_array_equal(model(inputs), again(inputs))
    merged = model_class.from_pretrained(tmp_path / "merged")
    adapted = np.asarray(model(inputs))
    np.testing.assert_allclose(merged(inputs), adapted, atol=2e-5 * np.abs(adapted).max())
    assert model.merge() < 1e-5
    model.unmerge()
    np.testing.assert_array_equal(model(inputs), adapted)


def test_a_classifier_s_directory_names_the_padding_of_its_own_tokenizer(tmp_path):
    """transformers finds a row's last token by it, and refuses an id that is none."""
    write_tokenizer(tmp_path, MARKED)
    model = made("llama", Classifier, num_classes=3)
    assert "pad_token_id" not in model.hf_config()
    model.tokenizer = read_tokenizer(tmp_path)
    assert model.hf_config()["pad_token_id"] == model.tokenizer.pad != END_OF_TEXT


@pytest.mark.parametrize("family", FIELDS)
def test_a_base_has_one_sum_whatever_is_on_it(family, tmp_path):
    """In memory and on disk, with a head of its own and without."""
    model = made(family)
    model.save_pretrained(tmp_path / "base")
    expected = sha256_of_base(read_checkpoint(tmp_path / "base"))
    assert base_fingerprint(model) == expected
    for model_class, more in ((Classifier, {"num_classes": 2}), (LanguageModel, {})):
        for dtype in ("float32", "bfloat16"):
            held = model_class.from_pretrained(
                tmp_path / "base", lora={"rank": 1}, dtype=dtype, **more
            )
            assert base_fingerprint(held) == expected
            assert held.lora
            assert held.lora.targets == held.family.usual_targets


def test_a_template_of_conversations_goes_with_the_tokenizer(tmp_path):
    write_tokenizer(tmp_path / "base", MARKED)
    model = made("llama")
    model.tokenizer = read_tokenizer(tmp_path / "base")
    model.save_pretrained(tmp_path / "first")
    (tmp_path / "first" / TEMPLATE_FILE).write_text("{{ messages }}")
    for name in ("first", "second"):  # twice, as an export may replace itself
        LanguageModel.from_pretrained(tmp_path / "first").save_pretrained(tmp_path / "second")
        assert (tmp_path / name / TEMPLATE_FILE).read_text() == "{{ messages }}"


@pytest.mark.parametrize("family", FIELDS)
def test_all_but_lora_is_frozen_and_the_base_of_a_run_is_whole(family, tmp_path):
    model = made(family, lora=LORA)
    model.freeze_all_but_lora()
    layers = model.config.decoder.layers * len(model.family.lora_targets)
    assert len(model.trainable_variables) == 2 * layers
    model.save_base(tmp_path / "base")
    fields = json.loads((tmp_path / "base" / "config.json").read_text())
    tied = model.config.decoder.tied_head
    heads = model.family.architectures
    assert fields["architectures"] == [heads.base if tied else heads.language_model]
    again = LanguageModel.from_pretrained(tmp_path / "base", lora=LORA)
    model.save_adapter(tmp_path / "adapter")
    again.load_adapter(tmp_path / "adapter")
    np.testing.assert_array_equal(model(inputs_of(ROWS)), again(inputs_of(ROWS)))


def test_a_row_longer_than_the_positions_is_refused_so_dynamic_scaling_never_sets_in():
    dynamic = {"rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}
    config = config_of("llama", **dynamic)
    plain = config_of("llama", rope_scaling=None).decoder.rotary
    np.testing.assert_array_equal(frequencies(config.decoder.rotary, 16), frequencies(plain, 16))
    with pytest.raises(UserError, match="33 tokens are more than the model's 32"):
        LanguageModel(config).built_now()(inputs_of([[1] * 33]))


@pytest.mark.parametrize(
    ("family", "fields", "message"),
    [
        ("llama", {"model_type": ABSENT}, "no model_type, such as llama"),
        ("llama", {"hidden_act": "gelu"}, "hidden_act='gelu'; only 'silu'"),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5; only 1.0"),
        (
            "llama",
            {"rope_scaling": {"rope_type": "longrope"}},
            "rope_type='longrope'; only default",
        ),
        ("llama", {"rope_scaling": {"type": "linear"}}, "rope_scaling: factor must be a number"),
        ("llama", {"rope_scaling": 3}, "rope_scaling must be null or an object"),
        ("llama", {"rope_parameters": {"rope_type": "default"}}, "an object with rope_theta"),
        (
            "llama",
            {"num_key_value_heads": 3},
            "num_attention_heads 4 is not divisible by num_key_val",
        ),
        ("llama", {"head_dim": 15}, "head_dim must be even, as .*, not 15"),
        ("mistral", {"layer_types": ["full_attention"] * 2}, "layer_types="),
        ("qwen2", {"layer_types": ["chunked_attention"] * 2}, "layer_types must be null or a list"),
        (
            "qwen3",
            {"layer_types": ["full_attention"]},
            "layer_types has 1 layers, num_hidden_layers is 2",
        ),
        ("qwen3", {"head_dim": None}, "head_dim must be a whole number"),
        ("gpt_neox", {"hidden_act": "relu"}, "hidden_act must be one of gelu, gelu_new"),
        ("gpt_neox", {"rotary_pct": 0.2}, "rotary_pct 0.2 of a head.s 16 channels .*, not 3"),
        ("gpt_neox", {"rotary_pct": 0.01}, "rotary_pct 0.01 of a head.s .*, not 0"),
        ("gpt_neox", {"rotary_pct": 1.5}, "rotary_pct must be a number above 0, at most 1"),
        ("gpt_neox", {"num_attention_heads": 3}, "hidden_size 32 is not divisible by num_att"),
        (
            "llama",
            {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}},
            "partial_rotary_factor=0.5; only 1.0",
        ),
        ("gpt_neo", {"attention_types": [[["sparse"], 2]]}, "attention_types must be a list"),
        ("gpt_neo", {"num_layers": 3}, "attention_types has 2 layers, num_layers is 3"),
        ("gpt_neo", {"activation_function": "gelu"}, "activation_function='gelu'; only"),
    ],
)
def test_what_no_code_computes_is_named(family, fields, message):
    with pytest.raises(UserError, match=message) as caught:
        config_of(family, **fields)
    assert "\n" not in str(caught.value)


def test_rotary_of_transformers_5_is_read_like_that_of_4():
    scaling = {"rope_type": "linear", "factor": 2.0}
    older = config_of("llama", rope_theta=5e5, rope_scaling=scaling)
    assert config_of("llama", rope_parameters={"rope_theta": 5e5, **scaling}) == older
    plain = config_of("llama", rope_parameters={"rope_theta": 5e5, "rope_type": "default"})
    assert plain == config_of("llama", rope_theta=5e5, rope_scaling=None)
    newer = {"rope_theta": 5e5, "partial_rotary_factor": 0.25, **scaling}
    older = config_of("gpt_neox", rotary_emb_base=5e5, rotary_pct=0.25, rope_scaling=scaling)
    assert config_of("gpt_neox", rope_parameters=newer) == older


def test_published_sizes_have_the_numbers_of_parameters_that_are_published():
    published = {
        ("gpt_neo", "125M"): 125_198_592,
        ("gpt_neox", "70M"): 70_426_624,
        ("gpt_neox", "160M"): 162_322_944,
        ("gpt_neox", "410M"): 405_334_016,
        ("gpt_neox", "1B"): 1_011_781_632,
        ("gpt_neox", "1.4B"): 1_414_647_808,
        ("gpt_neox", "2.8B"): 2_775_208_960,
        ("gpt_neox", "6.9B"): 6_857_302_016,
        ("llama", "1B"): 1_235_814_400,
        ("llama", "8B"): 8_030_261_248,
        ("mistral", "7B"): 7_241_732_096,
        ("qwen2", "0.5B"): 494_032_768,
        ("qwen3", "0.6B"): 596_049_920,
    }
    for (family, size), number in published.items():
        assert known.config_of_size(size, family).decoder.parameters == number
