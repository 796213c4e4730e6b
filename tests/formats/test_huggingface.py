"""Weights to and from Hugging Face: exact both ways, and every mistake named."""

import json

import keras
import numpy as np
import pytest
from huggingface_hub.errors import GatedRepoError
from safetensors.numpy import load_file, save_file
from samples import inputs_of, randomize

from gpt2_tuning import arrays
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.families.known import FAMILIES, with_vocabulary
from gpt2_tuning.formats import directory, hub, huggingface
from gpt2_tuning.formats.directory import WEIGHTS_FILE
from gpt2_tuning.models.backbone import Backbone
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.models.gpt2_model import GPT2Model
from gpt2_tuning.training.strategy import make_strategy


@pytest.fixture
def model(small_config):
    return randomize(GPT2Model(small_config).built_now())


@pytest.fixture
def saved(model, tmp_path):
    model.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def same_weights(one, other):
    return all(
        np.array_equal(a.numpy(), b.numpy())
        for a, b in zip(one.weights, other.weights, strict=True)
    )


def rewrite(directory, change):
    path = directory / WEIGHTS_FILE
    arrays = load_file(path)
    change(arrays)
    save_file(arrays, path, metadata={"format": "pt"})


def test_export_through_transformers_and_back_is_bit_exact(model, saved, tmp_path, transformers):
    theirs = transformers.TFGPT2Model.from_pretrained(saved)
    live = GPT2Model(model.config)
    live.load_tf_gpt2(theirs)
    assert same_weights(live, model)
    assert same_weights(GPT2Model.from_pretrained(saved), model)


def test_live_language_model_gives_the_same_base(model, saved, transformers):
    theirs = transformers.TFGPT2LMHeadModel.from_pretrained(saved)
    classifier = GPT2Classifier(model.config, 2)
    classifier.load_tf_gpt2(theirs)
    assert same_weights(classifier.transformer, model)


def test_exported_classifier_gives_transformers_the_same_logits(tmp_path, transformers):
    config = GPT2Config(n_layer=1, n_embd=16, n_head=2, n_positions=16, initializer_range=0.2)
    ours = randomize(GPT2Classifier(config, label_names=["a", "b", "c"]).built_now())
    ours.save_pretrained(tmp_path / "exported")
    theirs = transformers.TFGPT2ForSequenceClassification.from_pretrained(tmp_path / "exported")
    inputs = inputs_of([[3, 4, 5, 6], [7, 8]], pad=50256)
    logits = theirs(input_ids=inputs["token_ids"], attention_mask=inputs["attention_mask"]).logits
    np.testing.assert_allclose(ours(inputs), logits, atol=1e-5)
    assert theirs.config.id2label == {0: "a", 1: "b", 2: "c"}


def test_classifier_comes_back_with_its_head_and_labels(small_config, tmp_path):
    model = randomize(GPT2Classifier(small_config, label_names=["no", "yes"]).built_now())
    model.save_pretrained(tmp_path / "model")
    again = GPT2Classifier.from_pretrained(tmp_path / "model")
    assert same_weights(again, model)
    assert again.label_names == ["no", "yes"]


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_both_key_styles_and_mask_buffers_are_read(model, saved, prefix):
    def restyle(arrays):
        restyled = {prefix + name: arrays.pop(name) for name in list(arrays)}
        buffer = np.tril(np.ones((1, 1, 64, 64), np.float32))
        restyled |= {f"{prefix}h.0.attn.bias": buffer}
        restyled |= {f"{prefix}h.0.attn.masked_bias": np.array([-1e4], np.float32)}
        restyled |= {"lm_head.weight": restyled[f"{prefix}wte.weight"].copy()}
        arrays.update(restyled)

    rewrite(saved, restyle)
    assert same_weights(GPT2Model.from_pretrained(saved), model)


def test_sharded_directories_are_read(model, saved):
    arrays = load_file(saved / "model.safetensors")
    (saved / "model.safetensors").unlink()
    names = sorted(arrays)
    weight_map: dict[str, str] = {}
    for number, part in enumerate((names[:9], names[9:])):
        file = f"model-0000{number + 1}-of-00002.safetensors"
        save_file({name: arrays[name] for name in part}, saved / file)
        weight_map |= dict.fromkeys(part, file)
    (saved / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert same_weights(GPT2Model.from_pretrained(saved), model)
    (saved / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match="names 2 files, of which model-00002-of-00002"):
        GPT2Model.from_pretrained(saved)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_no_more_than_a_block_of_a_weight_is_read_at_once(family, tmp_path, monkeypatch):
    """Llama's kernels lie transposed in files, GPT-2's do not; each replica has all of them."""
    config = with_vocabulary(FAMILIES[family].sizes["tiny"], 70)
    model = randomize(Backbone(config).built_now())
    model.save_pretrained(tmp_path / "base")
    sizes, read = [], arrays.read_array

    def watched(*arguments):
        found = read(*arguments)
        sizes.append(found.size)
        return found

    monkeypatch.setattr(arrays, "read_array", watched)
    monkeypatch.setattr(directory, "BLOCK", 1000)
    assert same_weights(Backbone.from_pretrained(tmp_path / "base"), model)
    assert max(sizes) <= 1000
    strategy = make_strategy("mirrored")
    with strategy.scope():
        spread = Backbone.from_pretrained(tmp_path / "base")
    for variable, wanted in zip(spread.weights, model.weights, strict=True):
        for held in strategy.experimental_local_results(variable.value):
            np.testing.assert_array_equal(held, wanted)
            # A read is no copy: one of a table of 154 MB takes more time than a token.
            reads = [held.read_value() for _ in range(2)]
            first, second = (np.frombuffer(read, np.uint8).ctypes.data for read in reads)
            assert first == second


def drop(arrays):
    del arrays["h.1.mlp.c_fc.bias"]


def extend(arrays):
    arrays["h.2.ln_1.weight"] = np.ones(32, np.float32)


def reshape(arrays):
    arrays["h.0.attn.c_attn.weight"] = np.ones((96, 32), np.float32)


def untie(arrays):
    arrays["lm_head.weight"] = arrays["wte.weight"] + 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, "h.1.mlp.c_fc.bias is missing"),
        (extend, "h.2.ln_1.weight is unexpected"),
        (reshape, r"h.0.attn.c_attn.weight has shape \(96, 32\), not \(32, 96\)"),
        (untie, "lm_head.weight differs from wte.weight"),
    ],
)
def test_wrong_keys_are_named_and_nothing_is_loaded(model, saved, change, message):
    rewrite(saved, change)
    fresh = GPT2Model(model.config).built_now()
    before = [weight.numpy().copy() for weight in fresh.weights]
    with pytest.raises(UserError, match=message):
        fresh.load_weights_from(saved)
    assert all(np.array_equal(a, b.numpy()) for a, b in zip(before, fresh.weights, strict=True))


def test_a_live_model_of_another_shape_is_refused(model, transformers):
    shape = {"n_embd": 32, "n_head": 4, "vocab_size": 97, "n_positions": 64}
    deeper = transformers.TFGPT2Model(transformers.GPT2Config(n_layer=3, **shape))
    deeper.build()
    with pytest.raises(UserError, match=r"TFGPT2Model given: h\.2\..* is unexpected"):
        GPT2Model(model.config).load_tf_gpt2(deeper)
    heads = transformers.TFGPT2Model(transformers.GPT2Config(n_layer=2, **{**shape, "n_head": 8}))
    heads.build()
    with pytest.raises(UserError, match="n_head is 8, the model's is 4"):
        GPT2Model(model.config).load_tf_gpt2(heads)
    with pytest.raises(UserError, match="is not a TF GPT-2"):
        GPT2Model(model.config).load_tf_gpt2(object())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable safetensors file"),
        (b"\xff" * 64, "not a readable safetensors file"),
        (b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ", "wte.weight is missing"),
    ],
    ids=["empty", "hostile header", "no tensors"],
)
def test_damaged_files_are_refused(saved, content, message):
    (saved / "model.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=message):
        GPT2Model.from_pretrained(saved)


def test_truncated_file_is_refused(saved):
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="not a readable safetensors file"):
        GPT2Model.from_pretrained(saved)


def test_pickles_are_not_read(saved):
    (saved / "model.safetensors").rename(saved / "pytorch_model.bin")
    with pytest.raises(UserError, match="only safetensors are read") as caught:
        GPT2Model.from_pretrained(saved)
    command = "from transformers import AutoModelForCausalLM as M; M.from_pretrained("
    assert f'`python -c "{command}{str(saved)!r}).save_pretrained(' in str(caught.value)


@pytest.mark.parametrize(
    ("prefix", "message"),
    [("module.", "DataParallel: save `model.module`"), ("_orig_mod.", r"torch\.compile: save the")],
)
def test_names_of_a_model_in_a_wrapper_say_whose_they_are(saved, prefix, message):
    def wrap(arrays):
        for name in list(arrays):
            arrays[prefix + name] = arrays.pop(name)

    rewrite(saved, wrap)
    with pytest.raises(UserError, match=rf"begins with {prefix}, which is left by .*{message}"):
        GPT2Model.from_pretrained(saved)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_layer": 1_000_000}, "config.json: n_layer must be a whole number from 1 to 1000"),
        ({"n_layer": 1000}, "h.2.ln_1.weight is missing"),
        ({"n_embd": 10**7 - 4}, r"wte.weight has shape \(97, 32\), not \(97, 9999996\)"),
        ({"n_positions": 10**7}, r"wpe.weight has shape \(64, 32\), not \(10000000, 32\)"),
        ({"vocab_size": 10**7}, r"wte.weight has shape \(97, 32\), not \(10000000, 32\)"),
    ],
)
def test_no_model_is_made_of_a_size_that_the_weights_have_not(saved, fields, message, monkeypatch):
    monkeypatch.setattr(GPT2Model, "__init__", None)
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, **fields}))
    with pytest.raises(UserError, match=message):
        GPT2Model.from_pretrained(saved)


def test_a_model_computed_differently_is_refused(saved):
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, "activation_function": "relu"}))
    with pytest.raises(UserError, match="activation_function='relu'"):
        GPT2Model.from_pretrained(saved)


def test_configs_have_the_older_name_of_n_positions_which_converters_ask_for(model, saved):
    fields = json.loads((saved / "config.json").read_text())
    assert fields["n_ctx"] == fields["n_positions"] == model.config.n_positions
    (saved / "config.json").write_text(json.dumps({**fields, "n_ctx": 7, "n_inner": 4 * 32}))
    assert GPT2Model.from_pretrained(saved).config == model.config


def test_weights_that_cannot_be_had_are_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    message = r"cannot get model.safetensors of 'openai-community/gpt2'.*--pretrained DIR"
    with pytest.raises(UserError, match=message):
        GPT2Model.from_pretrained("124M")
    with pytest.raises(UserError, match="no published weights of size tiny"):
        GPT2Model.from_pretrained("tiny")


def test_a_gated_base_says_how_to_get_in(monkeypatch):
    # Not by its constructor, which differs between the versions of huggingface_hub.
    gated = GatedRepoError
    refusal = gated.__new__(gated, "403")

    def refuse(*_, **__):
        raise refusal

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(UserError, match=r"accepted its terms.*hf auth login"):
        hub.find_checkpoint("meta-llama/Llama-3.2-1B")


def test_interrupted_export_leaves_nothing(model, tmp_path, monkeypatch):
    def full_disk(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(huggingface, "save_arrays", full_disk)
    with pytest.raises(OSError, match="No space"):
        model.save_pretrained(tmp_path / "exported")
    assert list(tmp_path.iterdir()) == []


def test_export_keeps_its_hands_off_other_files(model, saved):
    model.save_pretrained(saved)  # its own files are replaced
    (saved / "thesis.txt").write_text("x")
    with pytest.raises(UserError, match=r"holds thesis\.txt, which would be removed"):
        model.save_pretrained(saved)
    assert (saved / "thesis.txt").exists()


def test_only_what_the_checkpoint_lacks_is_drawn_at_random(small_config, saved, monkeypatch):
    drawn = []
    real = keras.initializers.RandomNormal.__call__

    def spy(self, shape, dtype=None):
        drawn.append(shape)
        return real(self, shape, dtype)

    monkeypatch.setattr(keras.initializers.RandomNormal, "__call__", spy)
    tuned = GPT2Classifier.from_pretrained(saved, num_classes=3, lora={"rank": 2})
    assert drawn == [(small_config.n_embd, 3)]
    assert np.ptp(tuned.score.kernel.numpy()) > 0
    drawn.clear()
    fresh = GPT2Model(small_config).built_now()
    assert len(drawn) == 2 + 4 * small_config.n_layer
    assert np.ptp(fresh.transformer.tokens.embeddings.numpy()) > 0
