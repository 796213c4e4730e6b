"""Adapters on disk are shown, merged and mixed; what cannot be is said in one line."""

import dataclasses

import numpy as np
import pytest
from lora_models import SMALL, batch, outputs, small_model
from script_runs import refused

from gpt2_tuning.__main__ import main
from gpt2_tuning.errors import UserError
from gpt2_tuning.formats.adapters import read_adapter_config
from gpt2_tuning.formats.mixed_adapters import mix
from gpt2_tuning.formats.mixing import combined, dropped, largest
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel
from gpt2_tuning.runs import weights_record
from gpt2_tuning.runs.tuned_model import save_tuned

pytestmark = pytest.mark.usefixtures("all_bits")

CONFIG = dataclasses.replace(SMALL, n_layer=1)
LORAS = {
    "tone": {"rank": 4, "alpha": 8, "targets": ["attn.c_attn", "mlp.c_proj"]},
    "facts": {"rank": 2, "alpha": 3, "targets": ["attn.c_attn", "mlp.c_proj"]},
    "same": {"rank": 4, "alpha": 2, "targets": ["attn.c_attn", "mlp.c_proj"]},
    "other": {"rank": 4, "alpha": 2, "targets": ["attn.c_proj"]},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A base and adapters of it."""
    directory = tmp_path_factory.mktemp("adapters")
    for name, lora in LORAS.items():
        model = small_model(GPT2LanguageModel, CONFIG, lora)
        random = np.random.default_rng(len(name))
        for variable in model.lora_weights().values():
            variable.assign(random.normal(0, 0.3, variable.shape))
        model.pretrained_name = str(directory / "base")
        model.save_adapter(directory / name)
    model.save_pretrained(directory / "base")
    for name, labels in (("mood", ["calm", "cross"]), ("topic", ["a", "b"])):
        classifier = small_model(GPT2Classifier, CONFIG, LORAS["tone"], label_names=labels)
        classifier.save_adapter(directory / name)
    return directory


def command(*words):
    return main(["adapters", *map(str, words)])


def given(home, *names):
    return [word for name in names for word in ("--adapter", home / name)]


def test_show_says_what_a_directory_holds_and_on_what_base(home, capsys):
    assert command("show", *given(home, "tone", "mood"), "--base", home / "base") == 0
    text = capsys.readouterr().out
    for part in (
        "attn.c_attn rank 4, scaled by 2",
        f"base        {home / 'base'}",
        "2: calm, cross",
        "parameters  1,152",
        f"tuned on    {home / 'base'}: yes",
    ):
        assert part in text
    other = small_model(GPT2LanguageModel, CONFIG, seed=1)
    other.save_pretrained(home / "other-base")
    assert command("show", *given(home, "tone"), "--base", home / "other-base") == 0
    assert "no: that base has other weights" in capsys.readouterr().out


def with_adapter(home, directory, cls=GPT2LanguageModel):
    model = small_model(cls, CONFIG)
    model.load_adapter(directory, name="one")
    return model


def test_merge_writes_what_base_and_adapter_compute(home, tmp_path):
    assert command("merge", *given(home, "tone"), "--output_dir", tmp_path / "merged") == 0
    merged = GPT2LanguageModel.from_pretrained(tmp_path / "merged")
    wanted = outputs(with_adapter(home, home / "tone"), batch(SMALL))
    np.testing.assert_allclose(outputs(merged, batch(SMALL)), wanted, atol=1e-4)
    flags = ["--base", home / "base", "--output_dir", tmp_path / "mood"]
    assert command("merge", *given(home, "mood"), *flags) == 0
    classifier = GPT2Classifier.from_pretrained(tmp_path / "mood")
    assert classifier.label_names == ["calm", "cross"]


def test_cat_is_exactly_the_weighted_sum_of_the_updates(home, tmp_path):
    flags = ["--weights", "0.7", "-0.4", "--output_dir", tmp_path / "cat"]
    assert command("mix", *given(home, "tone", "facts"), *flags) == 0
    lora, extra = read_adapter_config(tmp_path / "cat")
    assert (lora.rank, lora.alpha) == (6, 6)
    assert extra.base_sha256 == read_adapter_config(home / "tone")[1].base_sha256
    several = with_adapter(home, home / "tone")
    several.load_adapter(home / "facts", name="two")
    several.set_adapter({"one": 0.7, "two": -0.4})
    found = outputs(with_adapter(home, tmp_path / "cat"), batch(SMALL))
    np.testing.assert_allclose(found, outputs(several, batch(SMALL)), rtol=1e-4, atol=1e-4)


def test_a_mixture_of_a_rank_above_the_layers_is_loaded_like_any(home, tmp_path):
    """32 + 32 of layers of 32: what is written here must be read here, and PEFT takes it too."""
    for name in ("wide", "wider"):
        model = small_model(GPT2LanguageModel, CONFIG, {**LORAS["tone"], "rank": 32}, seed=0)
        model.save_adapter(tmp_path / name)
    flags = ["--output_dir", tmp_path / "cat"]
    assert command("mix", *given(tmp_path, "wide", "wider"), *flags) == 0
    lora, _ = read_adapter_config(tmp_path / "cat")
    assert lora.rank == 64
    wanted = outputs(with_adapter(home, tmp_path / "wide"), batch(SMALL))
    made = small_model(GPT2LanguageModel, CONFIG, lora)
    made.load_adapter(tmp_path / "cat")
    for model in (made, with_adapter(home, tmp_path / "cat")):
        np.testing.assert_allclose(outputs(model, batch(SMALL)), wanted, rtol=1e-3, atol=1e-3)
    assert made.merge() < 1e-4


def run_of(directory, base):
    """A finished run of a random base, which it keeps, as far as `mix` looks at it."""
    model = small_model(GPT2LanguageModel, CONFIG, LORAS["tone"])
    (directory / "adapter").parent.mkdir()
    (directory / "options.yaml").write_text("pretrained: none\n")
    save_tuned(model, directory)
    if base:
        model.save_base(directory / "base")
        weights_record.record(directory, "base")
    return directory


def test_a_mixture_of_runs_names_the_base_that_one_of_them_keeps(tmp_path):
    runs = [run_of(tmp_path / name, name != "old") for name in ("old", "one", "two")]
    words = [word for run in runs for word in ("--adapter", run)]
    assert command("mix", *words, "--output_dir", tmp_path / "mixed") == 0
    assert read_adapter_config(tmp_path / "mixed")[1].base_name == str(tmp_path / "one" / "base")
    flags = ["--adapter", tmp_path / "mixed", "--output_dir", tmp_path / "merged"]
    assert command("merge", *flags) == 0


def test_nothing_that_is_read_is_replaced(home, tmp_path, capsys):
    runs = [run_of(tmp_path / name, True) for name in ("one", "two")]
    both = [word for run in runs for word in ("--adapter", run)]
    link = tmp_path / "link"
    link.symlink_to(runs[0] / "adapter")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")}
    cases = [
        ["mix", *given(home, "tone", "same"), "--output_dir", home / "same"],
        ["mix", *both, "--output_dir", runs[1] / "adapter"],
        ["mix", *both, "--output_dir", link],
        ["merge", "--adapter", runs[0], "--output_dir", runs[0] / "base"],
        ["merge", *given(home, "tone"), "--output_dir", home / "base"],
    ]
    for words in cases:
        assert "is read here and would be replaced" in refused(main, capsys, "adapters", *words)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")}


@pytest.mark.parametrize(
    ("shares", "more", "message"),
    [
        ([0.5, np.nan], {}, "an adapter's share must be a finite number, not nan"),
        ([0.5, np.inf], {}, "an adapter's share must be a finite number, not inf"),
        ([0.5, "1"], {}, "an adapter's share must be a finite number, not '1'"),
        ([0.5], {}, "there are 1 shares of 2 adapters: give one for each"),
        ([0.5, 1e29], {}, "the mixture's base_model.model.transformer.h.0.attn.c_attn.lora_A"),
        ([0.5, 0.5], {"method": "mean"}, "method must be one of linear, cat, ties, dare_linear"),
        ([0.5, 0.5], {"density": 0}, "density must be above 0 and at most 1, not 0"),
    ],
)
def test_what_python_asks_of_a_mixture_is_looked_at(home, tmp_path, shares, more, message):
    asked = {"method": "cat", **more}
    directories = [str(home / "tone"), home / "same"]
    if 1e29 in shares:
        model = small_model(GPT2LanguageModel, CONFIG, {**LORAS["tone"], "alpha": 1e20})
        model.save_adapter(tmp_path / "large")
        directories = [str(home / "tone"), tmp_path / "large"]
    with pytest.raises(UserError) as caught:
        mix(directories, shares, tmp_path / "mixed", **asked)
    assert message in str(caught.value)
    assert not (tmp_path / "mixed").exists()


def array(*numbers):
    return np.array([numbers], np.float32)


def test_ties_keeps_the_largest_elects_a_sign_and_takes_the_mean_of_those_that_have_it():
    factors = [array(3, -2, 1, 0.1), array(-1, -4, 0.2, 5)]
    # Half of each is kept: 3 and -2, -4 and 5.
    np.testing.assert_array_equal(largest(factors[0], 0.5), array(3, -2, 0, 0))
    found = combined(factors, array(1, 1)[0], "ties", 0.5, np.random.default_rng(0))
    np.testing.assert_array_equal(found, array(3, -3, 0, 5))


def test_dare_drops_at_random_and_keeps_the_mean():
    factor = np.ones((200, 200), np.float32)
    found = dropped(factor, 0.25, np.random.default_rng(0))
    assert set(np.unique(found)) == {0.0, 4.0}
    assert found.mean() == pytest.approx(1, abs=0.03)


def test_the_same_seed_mixes_the_same_bytes(home, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        flags = ["--method", "dare_ties", "--seed", seed, "--output_dir", tmp_path / name]
        assert command("mix", *given(home, "tone", "same"), *flags) == 0
    a, b, c = ((tmp_path / n / "adapter_model.safetensors").read_bytes() for n in "abc")
    assert a == b != c


def test_what_cannot_be_done_is_said_in_one_line(home, tmp_path, capsys):
    out = ["--output_dir", tmp_path / "out"]
    small_model(GPT2LanguageModel, CONFIG, LORAS["tone"], seed=1).save_adapter(tmp_path / "far")
    cases = [
        (["mxi"], "unknown action mxi: did you mean mix?"),
        ([], "no action is given (there are show, merge, mix)"),
        (["show"], "--adapter must be given"),
        (["show", "--adapter", tmp_path], "holds no adapter"),
        (["mix", *given(home, "tone"), *out], "there is nothing to mix"),
        (["mix", *given(home, "tone", "same"), "--weights", 1, *out], "--weights needs a number"),
        (["mix", *given(home, "tone", "same"), "--weights", 1, "nan", *out], "finite numbers"),
        (["mix", *given(home, "tone", "facts"), "--method", "linear", *out], "cat mixes different"),
        (["mix", *given(home, "tone", "other"), *out], "adapters of the same layers"),
        (["mix", *given(home, "tone", "mood"), *out], "mood has the classes calm, cross: only"),
        (
            ["mix", *given(home, "mood", "topic"), *out],
            "topic has the classes a, b: only",
        ),
        (["mix", *given(home, "tone"), "--adapter", tmp_path / "far", *out], "other weights"),
        (["mix", *given(home, "tone", "same"), "--density", 0.2, *out], "--density needs --method"),
        (["merge", *given(home, "mood"), *out], "names no base: give --base"),
        (["merge", *given(home, "mood"), "--base", "no/where", *out], "; use --base DIR (config"),
        (["show", *given(home, "mood"), "--base", "no/where"], "; use --base DIR (config.json"),
        (["merge", "--adapter", tmp_path / "far", "--base", home / "base", *out], "other weights"),
    ]
    for words, message in cases:
        assert message in refused(main, capsys, "adapters", *words)
    assert not (tmp_path / "out").exists()
