"""Runs that begin with an adapter or another run, and runs that tune a part of the weights."""

import dataclasses

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file
from script_runs import refused, with_sample_and_base
from script_runs import two_updates as run
from tuner_runs import LORA, OPTIONS, make_tuner

from classification_tuning import test, train
from gpt2_tuning.formats.adapters import read_adapter_config
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel
from gpt2_tuning.training import run_directory
from gpt2_tuning.training.optimizer import make_optimizer


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return with_sample_and_base(tmp_path_factory.mktemp("home"))


def settings(home, name):
    return yaml.safe_load((home / name / "options.yaml").read_text())


@pytest.fixture(scope="module")
def lora(home):
    """A run that tuned an adapter of rank 2."""
    flags = ["--pretrained", home / "base", "--lora_rank", 2, "--lora_targets", "mlp.c_fc"]
    assert run(home, "lora", *flags) == 0
    return home / "lora"


@pytest.mark.slow
def test_a_run_goes_on_from_an_adapter_or_from_the_run_that_left_it(home, lora, capsys):
    """Of a learning rate of almost nothing the adapter comes out as it went in."""
    for name, flags in (
        ("directory", ["--adapter", lora / "adapter", "--pretrained", home / "base"]),
        ("run", ["--adapter", lora]),
        ("continued", ["--continue", lora]),
    ):
        assert run(home, name, *flags, "--learning_rate", "1e-12", "--lora_plus") == 0, name
        config, _ = read_adapter_config(home / name / "adapter")
        assert (config.rank, config.targets) == (2, ("mlp.c_fc",))
        assert settings(home, name)["pretrained"] == str(home / "base")
        files = (run_dir / "adapter/adapter_model.safetensors" for run_dir in (home / name, lora))
        found, wanted = map(load_file, files)
        for key, array in wanted.items():
            np.testing.assert_allclose(found[key], array, atol=1e-6)
    assert settings(home, "continued")["continue"] == str(lora)
    assert test.main(["--run_dir", str(home / "continued"), "--text", "fine"]) == 0
    # The same flags resume it, its own record too.
    assert run(home, "continued", "--continue", lora, "--learning_rate", "1e-12", "--lora_plus",
               "--resume") == 0  # fmt: skip
    record = ["--config", str(home / "continued" / "options.yaml")]
    assert train.main([*record, "--output_dir", str(home / "again")]) == 0


@pytest.mark.slow
def test_a_part_of_the_weights_is_tuned_and_saved_as_a_whole_model(home):
    flags = ["--pretrained", home / "base", "--tune", "biases", "--learning_rate", "0.1"]
    assert run(home, "biases", *flags) == 0
    before = load_file(home / "base" / "model.safetensors")
    after = load_file(home / "biases" / "model" / "model.safetensors")
    changed = {
        name
        for name, array in before.items()
        if not np.array_equal(array, after[f"transformer.{name}"])
    }
    assert changed == {name for name in before if name.endswith(".bias")}
    assert "a part of the weights (biases)" in (home / "biases" / "README.md").read_text()
    # It is gone on from in its own way, full tuning, with all that it tuned.
    assert run(home, "full", "--continue", home / "biases", "--learning_rate", "1e-12") == 0
    again = load_file(home / "full" / "model" / "model.safetensors")
    for name, array in after.items():
        np.testing.assert_allclose(again[name], array, atol=1e-6)


@pytest.mark.parametrize("model_class", [GPT2LanguageModel, GPT2Classifier])
@pytest.mark.parametrize("part", ["head", "biases", "last:1", "last:2"])
def test_what_is_frozen_but_for_a_part(small_config, model_class, part):
    arguments = {"num_classes": 3} if model_class is GPT2Classifier else {}
    config = dataclasses.replace(small_config, n_layer=3)
    model = model_class(config, **arguments).built_now()
    if (part, model_class) == ("head", GPT2LanguageModel):
        with pytest.raises(Exception, match="no head of its own"):
            model.freeze_all_but(part)
        return
    model.freeze_all_but(part)
    names = {name for name, v in model.base_weights().items() if v.trainable}
    every = set(model.base_weights())
    if part == "head":
        assert not names
    elif part == "biases":
        assert names == {name for name in every if name.endswith(".bias")}
    else:
        blocks = ("h.2.",) if part == "last:1" else ("h.1.", "h.2.")
        assert names == {name for name in every if name.startswith((*blocks, "ln_f."))}
    assert all(v.trainable for v in model.head_weights().values())


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
def test_lora_plus_moves_b_by_its_ratio_and_all_else_as_before(small_config, name):
    moved = []
    for ratio in (1.0, 4.0):
        model = GPT2LanguageModel(small_config, lora={"rank": 2}).built_now()
        model.freeze_all_but_lora()
        for variable in model.trainable_variables:
            variable.assign(np.full(variable.shape, 0.5))
        optimizer = make_optimizer(name, 1e-3, 0.0, 10, 0.0, ratio)
        gradients = [np.full(v.shape, 0.1, np.float32) for v in model.trainable_variables]
        optimizer.apply(gradients, model.trainable_variables)
        moved.append({v.path: 0.5 - np.asarray(v).mean() for v in model.trainable_variables})
    slow, fast = ([*found.values()] for found in moved)
    names = [path.rpartition("/")[2] for path in moved[0]]
    wanted = [{"lora_A": 1.0, "lora_B": 4.0}[name] for name in names]
    np.testing.assert_allclose(np.array(fast) / np.array(slow), wanted, rtol=1e-3)


def test_new_flags_that_are_not_given_are_no_part_of_what_a_run_is(tmp_path):
    """Else checkpoints from before they were there would be refused."""
    tuner = make_tuner(tmp_path / "plain")
    assert not set(run_directory.NEWEST) & set(tuner.store.run)
    options = dataclasses.replace(OPTIONS, lora_plus=True)
    other = make_tuner(tmp_path / "other", options, lora=LORA)
    assert set(run_directory.NEWEST) & set(other.store.run) == {"lora_plus"}
    assert other.optimizer.b_rate_ratio == 16


def test_what_a_run_cannot_begin_with_is_said_in_one_line(home, lora, capsys, tmp_path):
    cases = [
        (["--adapter", tmp_path], "holds no adapter: give a directory with adapter_config.json"),
        (["--adapter", tmp_path / "x"], "x is not there"),
        (["--continue", home / "base"], "is not a run"),
        (["--adapter", lora, "--continue", lora], "exclude each other"),
        (["--adapter", lora, "--lora_rank", 4], "--lora_rank needs --adapter and --continue to be"),
        (["--continue", lora, "--pretrained", "x"], "--pretrained needs --continue to be left out"),
        (["--continue", lora, "--tune", "biases"], "--tune biases tunes no adapter"),
        (["--tune", "biases", "--lora_rank", 2], "--tune biases needs --lora_rank 0"),
        (["--tune", "last:0"], "--tune must be all, head, biases or last:N"),
        (["--tune", "last:9", "--pretrained", home / "base"], "the last N of its 1 blocks"),
        (["--lora_plus_ratio", 4], "--lora_plus_ratio needs --lora_plus"),
        (["--contineu", lora], "unknown flag --contineu: did you mean --continue?"),
    ]
    for flags, message in cases:
        every = ["--dataset_dir", home / "data", "--output_dir", tmp_path / "run", *flags]
        assert message in refused(train.main, capsys, *every)
    assert not (tmp_path / "run").exists()


def test_a_rate_for_adapters_is_refused_where_the_run_gone_on_from_has_none(home, capsys, tmp_path):
    """Of a run only what is looked at is there."""
    (tmp_path / "whole" / "model").mkdir(parents=True)
    (tmp_path / "whole" / "options.yaml").write_text("lora_rank: 0\n")
    flags = ["--continue", tmp_path / "whole", "--lora_plus", "--dataset_dir", home / "data"]
    line = refused(train.main, capsys, *flags, "--output_dir", tmp_path / "run", silent=True)
    assert line.startswith("error: --lora_plus needs a run with an adapter")
    assert not (tmp_path / "run").exists()


def test_texts_are_labelled_under_several_adapters_side_by_side(home, lora, capsys):
    model = GPT2Classifier.from_pretrained(home / "base", label_names=["good", "bad"])
    model.add_adapter("other", {"rank": 1})
    model.save_adapter(home / "other", name="other")
    capsys.readouterr()
    flags = ["--adapter", lora, "--adapter", home / "other", "--text", "a fine day", "--text", "no"]
    assert test.main([str(flag) for flag in flags]) == 0
    lines = capsys.readouterr().out.splitlines()
    text = next(line for line in lines if "a fine day" in line)
    assert text.split("│")[3].split()[0] in ("good", "bad")
    labels = ("sadness", "joy", "love", "anger", "fear", "surprise")
    assert text.split("│")[2].split()[0] in labels
    for more, message in (
        (["--evaluate"], "leave out --input, --evaluate and --interactive"),
        (["--adapter", home / "data"], "holds no adapter"),
    ):
        assert message in refused(test.main, capsys, *flags, *more)
