"""What can be served is found by what it is, and what cannot is said in a line."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from answer_runs import LABELS
from script_runs import refused
from served_runs import base_in, instruction_runs, label_run

from gpt2_tuning import extras
from gpt2_tuning.commands import serve
from gpt2_tuning.commands.serve import adapters_of
from gpt2_tuning.data.prompts import Template
from gpt2_tuning.errors import UserError
from gpt2_tuning.inference.generation import generate_text
from gpt2_tuning.models.classifier import Classifier
from gpt2_tuning.serving.served import load


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    made = tmp_path_factory.mktemp("serving")
    instruction_runs(made)
    label_run(made)
    return made


def test_a_run_its_base_and_further_adapters_are_models(home):
    served = load(str(home / "tone"), {"facts": home / "facts"})
    assert list(served.models) == ["tone", "base", "facts"]
    assert isinstance(served.models["tone"].template, Template)
    assert served.models["base"].template is None
    choices = [one.adapter for one in served.models.values()]
    assert served.language_model
    texts = generate_text(served.language_model, ["hello"] * 3, 12, adapters=choices)
    for text, directory in zip(texts, ("tone", "base", "facts"), strict=True):
        other = load(str(home / directory), {})
        assert other.language_model
        assert generate_text(other.language_model, ["hello"], 12) == [text]


def test_a_base_is_a_model_by_the_name_of_its_directory(home):
    served = load(str(home / "base"), {"x": home / "facts" / "adapter"})
    assert {name: one.adapter for name, one in served.models.items()} == {
        "base": None,
        "x": "adapter-1",
    }


def test_a_classifiers_run_labels(home):
    served = load(str(home / "moods"), {})
    assert served.language_model is None
    assert isinstance(served.model, Classifier)
    assert served.models["moods"].label_names == LABELS
    assert served.models["moods"].texts == 1


def unfinished(home, tmp_path):
    """A run of which only the beginning is there."""
    shutil.copytree(home / "tone", tmp_path / "begun")
    shutil.rmtree(tmp_path / "begun" / "adapter")
    return tmp_path / "begun"


def test_what_is_no_run_and_no_base_is_said(home, tmp_path):
    (tmp_path / "empty").mkdir()
    begun = unfinished(home, tmp_path)
    for target, said in (
        (begun, "holds no tuned model: did its training finish?"),
        (home / "data", "holds prepared data, not a run"),
        (home / "tone" / "adapter", "is a part of a run"),
        (home / "data" / "metadata.json", "is a file"),
        (tmp_path / "empty", "is not a run: it is empty"),
        (tmp_path / "nothing", "use serve RUN, or serve DIR"),
    ):
        with pytest.raises(UserError, match=said):
            load(str(target), {})


def test_an_adapter_that_does_not_fit_is_said(home, tmp_path):
    other = base_in(tmp_path / "other")
    weights = tmp_path / "other" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    for target, adapters, said in (
        (other, {"tone": home / "tone"}, "base"),
        (home / "tone", {"tone": home / "facts"}, "two models have one name"),
        (home / "tone", {"x": home / "moods"}, "tuned its model, and no adapter"),
        (home / "tone", {"x": home / "nothing"}, "is not there"),
        (home / "moods", {"x": home / "tone"}, "classifier's head"),
    ):
        with pytest.raises(UserError, match=said):
            load(str(target), adapters)


@pytest.mark.parametrize("given", ["tone", "=x", "x=", " =x"])
def test_adapters_have_a_name_and_a_place(given):
    with pytest.raises(UserError, match="NAME=DIR"):
        adapters_of([given])


def test_adapters_names_are_given_once():
    assert adapters_of(["a=x", "b=y=z"]) == {"a": Path("x"), "b": Path("y=z")}
    with pytest.raises(UserError, match="twice"):
        adapters_of(["a=x", "a=y"])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "--model must be given"),
        (["x", "--port", "70000"], "--port must be from 0 to 65535"),
        (["x", "--slots", "0"], "--slots must be at least 1"),
        (["x", "--timeout", "0"], "--timeout must be above 0"),
        (["x", "--api_key", "käse"], "--api_key must be"),
        (["x", "--adapter", "tone"], "NAME=DIR"),
        (["x", "y"], "y"),
    ],
)
def test_wrong_flags_are_a_line(flags, said, capsys, monkeypatch):
    monkeypatch.setattr(extras, "missing", lambda extra: [])
    assert said in refused(serve.main, capsys, *flags)


def test_without_its_extra_a_line_names_it(capsys, monkeypatch):
    monkeypatch.setattr(extras, "missing", lambda extra: ["uvicorn"])
    line = refused(serve.main, capsys, "runs/tone")
    assert "gpt2-tuning serve needs the package uvicorn" in line
    assert 'pip install -e ".[serve]"' in line


def test_embeddings_of_a_base_and_of_an_adapter_differ(home):
    served = load(str(home / "tone"), {})
    rows = [[1, 2, 3], [4]]
    tuned, base = (
        served.embedder.embed(rows, one.adapter, "mean") for one in served.models.values()
    )
    assert tuned.shape == (2, 16)
    assert not np.allclose(tuned, base)
    alone = served.embedder.embed(rows[1:], None, "last")
    np.testing.assert_allclose(served.embedder.embed(rows, None, "last")[1:], alone, atol=1e-5)
    np.testing.assert_allclose(base[1:], alone, atol=1e-5)  # of one token it is the mean
