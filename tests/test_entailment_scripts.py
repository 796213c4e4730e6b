"""The entailment scripts as a user runs them: on a few pairs, with a model of one layer."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest
import yaml
from script_runs import RUN_FILES, names, refused, snapshot

from classification_tuning import test as classification_test
from entailment_tuning import prep_dataset, test, train
from gpt2_tuning.data.metadata import read_metadata
from gpt2_tuning.data.tfrecords import read_records
from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.inference.classification import classify_pairs
from gpt2_tuning.metrics import shown_interval
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.models.gpt2_model import GPT2Model
from gpt2_tuning.runs import tuned_model
from gpt2_tuning.runs.tuned_model import load_tuned
from gpt2_tuning.tasks.entailment.prepare import SAMPLE_FILE
from gpt2_tuning.training.evaluation import evaluate_classifier

PAIRS = [("A cat sleeps.", "An animal rests."), ("It rained all day.", "It was dry.")]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Prepared data, and a base model of one layer that every run here starts from."""
    home = tmp_path_factory.mktemp("entailment")
    flags = ["--dataset", "sample", "--limit", "40", "--output_dir", str(home / "data")]
    assert prep_dataset.main(flags) == 0
    keras.utils.set_random_seed(0)  # else what is learnt from it depends on the tests before
    GPT2Model(SMALL).built_now().save_pretrained(home / "base")
    return home


SMALL = GPT2Config(n_layer=1, n_embd=16, n_head=2, n_positions=384)


def run(home, name, *flags):
    """Trains in home/name with flags that keep it short; returns the exit code."""
    paths = ["--dataset_dir", home / "data", "--pretrained", home / "base"]
    short = ["--epochs", 2, "--learning_rate", "1e-2", "--output_dir", home / name]
    return train.main([str(flag) for flag in (*paths, *short, *flags)])


@pytest.fixture(scope="module")
def lora_run(home):
    assert run(home, "lora", "--seed", 1) == 0
    return home / "lora"


def test_lora_of_rank_8_is_the_default_and_leaves_an_adapter_alone(lora_run):
    assert names(lora_run) == RUN_FILES | {"adapter"}
    adapter = json.loads((lora_run / "adapter" / "adapter_config.json").read_text())
    assert (adapter["r"], adapter["lora_alpha"], adapter["lora_dropout"]) == (8, 16.0, 0.05)
    scores = json.loads((lora_run / "validation.json").read_text())
    assert scores["examples"] == 40
    assert scores["baseline"]["always"] in ("entailment", "not_entailment")
    card = (lora_run / "README.md").read_text()
    for name in ("accuracy", "macro_f1", "mcc"):
        low, high = scores["intervals"][name]
        assert f"| {scores[name]:.4f} | {shown_interval(low, high)} |" in card
    assert "F1 of" not in card
    assert "entailment_tuning/test.py" in card
    assert '--premise "..." --hypothesis "..."' in card
    assert "| premise | hypothesis | true | predicted | probability |" in card


def test_pairs_are_labelled_in_the_order_they_are_given(lora_run, capsys):
    metadata = read_metadata(lora_run, "entailment")
    model = load_tuned(GPT2Classifier, lora_run, label_names=metadata.label_names)
    expected = classify_pairs(model, PAIRS, seq_len=384)
    flags = ["--premise", PAIRS[0][0], "--premise", PAIRS[1][0]]
    flags += ["--hypothesis", PAIRS[0][1], "--hypothesis", PAIRS[1][1]]
    capsys.readouterr()
    assert test.main(["--run_dir", str(lora_run), *flags]) == 0
    lines = capsys.readouterr().out.splitlines()
    for pair, found, shown, answer in zip(PAIRS, expected, lines[::2], lines[1::2], strict=True):
        assert shown == " | ".join(pair)
        share = found.probabilities[found.label]
        assert answer.startswith(f"  {found.label}  ({found.label} {share:.3f}")


def test_a_file_of_pairs_is_labelled_row_by_row(lora_run, tmp_path):
    rows = [{"id": i, "first": one, "second": other} for i, (one, other) in enumerate(PAIRS)]
    source, output = tmp_path / "rows.jsonl", tmp_path / "labelled.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = ["--premise_column", "first", "--hypothesis_column", "second"]
    flags = ["--run_dir", lora_run, "--input", source, "--output", output, *columns]
    assert test.main(list(map(str, flags))) == 0
    labelled = [json.loads(line) for line in output.read_text().splitlines()]
    assert [{name: row[name] for name in ("id", "first", "second")} for row in labelled] == rows
    for row in labelled:
        assert set(row["probabilities"]) == {"entailment", "not_entailment"}
        assert row["prediction"] == max(row["probabilities"], key=row["probabilities"].get)


def test_evaluation_says_what_the_score_is_worth(lora_run, capsys):
    assert test.main(["--run_dir", str(lora_run), "--evaluate"]) == 0
    scores = json.loads((lora_run / "test.json").read_text())
    shown = capsys.readouterr().out
    assert f"test: {scores['examples']} examples, with 95 % intervals" in shown
    assert f"the baseline always answers '{scores['baseline']['always']}'" in shown
    assert f"MCC      {scores['mcc']:.4f}" in shown
    assert "interval of the accuracy" in shown


def test_f1_is_shown_where_it_is_glues_official_figure(home, tmp_path, capsys):
    metadata = read_metadata(home / "data", "entailment")
    model = GPT2Classifier(SMALL, label_names=metadata.label_names).built_now()
    records = read_records(home / "data", metadata, "validation")
    for name, shown in (("rte", False), ("mrpc", True), ("qqp", True), ("qnli", False)):
        dataset = {**metadata.dataset, "name": f"nyu-mll/glue/{name}"}
        official = dataclasses.replace(metadata, dataset=dataset)
        found = evaluate_classifier(model, records, official, tmp_path, "test", 64)
        line = f"F1 of 'not_entailment' {found.scores.figures['f1'].value:.4f}"
        assert (line in capsys.readouterr().out) == shown


def test_interactive_asks_for_both_texts(lora_run, monkeypatch, capsys):
    answers = iter(["It rained.", "It was wet.", ""])
    asked = []

    def answer(prompt):
        asked.append(prompt)
        return next(answers)

    monkeypatch.setattr("builtins.input", answer)
    assert test.main(["--run_dir", str(lora_run), "--interactive"]) == 0
    assert asked == ["premise> ", "hypothesis> ", "premise> "]
    assert "It rained. | It was wet." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give --premise and --hypothesis, --input, --evaluate or --interactive"),
        (["--premise", "a"], "not 1 of --premise, 0 of --hypothesis"),
        (
            ["--premise", "a", "--premise", "b", "--hypothesis", "c"],
            "not 2 of --premise, 1 of --hypothesis",
        ),
        (["--premise", "a", "--hypothesis", " "], "--hypothesis is empty"),
        (["--input", "{rows}"], "rows.jsonl has no column 'hypothesis'; its columns: prem"),
        (["--input", "{blank}"], "row 1: premise or hypothesis holds no text"),
    ],
)
def test_wrong_use_of_the_test_script_is_one_line(lora_run, tmp_path, capsys, flags, message):
    rows, blank = tmp_path / "rows.jsonl", tmp_path / "blank.jsonl"
    rows.write_text('{"premise": "a"}\n')
    blank.write_text('{"premise": "a", "hypothesis": " "}\n')
    flags = [flag.format(rows=rows, blank=blank) for flag in flags]
    assert message in refused(test.main, capsys, "--run_dir", lora_run, *flags)


def test_a_run_of_one_task_is_refused_by_the_other(lora_run, capsys):
    line = refused(classification_test.main, capsys, "--run_dir", lora_run, "--text", "x")
    assert "run of entailment, not of classification: try it with `python entailment_" in line


@pytest.mark.slow
def test_three_classes_do_not_fit_a_run_of_two_but_take_a_new_head(
    home, lora_run, tmp_path, capsys
):
    file = tmp_path / "pairs.tsv"
    lines = [f"p {i}\th {i}\t{('no', 'perhaps', 'yes')[i % 3]}" for i in range(30)]
    file.write_text("premise\thypothesis\tlabel\n" + "\n".join(lines) + "\n")
    three = tmp_path / "three"
    assert prep_dataset.main(["--train_file", str(file), "--output_dir", str(three)]) == 0
    flags = ["--evaluate", "--dataset_dir", three]
    line = refused(test.main, capsys, "--run_dir", lora_run, *flags)
    expected = "has the classes no, perhaps, yes; the run was tuned on entailment, not_entailment"
    assert expected in line
    GPT2Classifier(SMALL, num_classes=2).built_now().save_pretrained(tmp_path / "two")
    paths = [
        "--dataset_dir",
        three,
        "--pretrained",
        tmp_path / "two",
        "--output_dir",
        tmp_path / "n",
    ]
    assert train.main([*map(str, paths), "--epochs", "1"]) == 0
    note = "its classes are LABEL_0, LABEL_1, not no, perhaps, yes: a new head begins at random"
    assert capsys.readouterr().err.count(note) == 1


def test_probabilities_are_identical_after_reloading(home, tmp_path, monkeypatch, transformers):
    """From a live TFGPT2LMHeadModel through train.py to a model read back from its run."""
    shape = {"n_layer": 1, "n_embd": 16, "n_head": 2, "initializer_range": 0.2}
    theirs = transformers.TFGPT2LMHeadModel(transformers.GPT2Config(**shape))
    theirs(np.array([[1, 2, 3]]))  # builds it
    ours = GPT2Model(GPT2Config.from_dict(theirs.config.to_dict()))
    ours.load_tf_gpt2(theirs)
    ours.save_pretrained(tmp_path / "base")

    trained = []
    save = tuned_model.save_tuned

    def save_and_keep(model, run_dir):
        trained.append(model)
        return save(model, run_dir)

    monkeypatch.setattr(tuned_model, "save_tuned", save_and_keep)
    assert run(home, tmp_path / "run", "--pretrained", tmp_path / "base", "--epochs", 1) == 0
    before = classify_pairs(trained[0], PAIRS)
    label_names = read_metadata(tmp_path / "run", "entailment").label_names
    again = load_tuned(GPT2Classifier, tmp_path / "run", label_names=label_names)
    assert classify_pairs(again, PAIRS) == before
    with again.disable_lora():
        assert classify_pairs(again, PAIRS) != before


@pytest.mark.slow
def test_64_pairs_are_learnt_by_heart(home, tmp_path):
    """Training pairs that also validate: without dropout's noise, every one must come out right."""
    rows = SAMPLE_FILE.read_text("utf-8").splitlines()[:64]
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(rows) + "\n")
    files = ["--train_file", file, "--validation_file", file, "--test_file", file]
    flags = [*files, "--output_dir", tmp_path / "data"]
    assert prep_dataset.main([str(flag) for flag in flags]) == 0
    flags = ["--dataset_dir", tmp_path / "data", "--lora_rank", 0, "--epochs", 80]
    assert run(home, tmp_path / "run", *flags, "--patience", "None") == 0
    scores = json.loads((tmp_path / "run" / "validation.json").read_text())
    assert (scores["examples"], scores["accuracy"]) == (64, 1.0)


@pytest.fixture(scope="module")
def seeds_run(home):
    """Two seeds, in the place of an older run of three."""
    (home / "seeds" / "seed-2").mkdir(parents=True)
    (home / "seeds" / "options.yaml").write_text("model_size: tiny\nepochs: 1\nseed: 0\nseeds: 3\n")
    shutil.copy(home / "data" / "metadata.json", home / "seeds")
    assert run(home, "seeds", "--seeds", 2, "--overwrite") == 0
    return home / "seeds"


@pytest.mark.slow
def test_several_seeds_are_several_whole_runs_and_their_spread(seeds_run):
    seeds = ["seed-0", "seed-1"]
    own = {"README.md", "metadata.json", "options.yaml", "seeds.json"}
    assert names(seeds_run) == own | set(seeds)
    assert all(names(seeds_run / seed) == RUN_FILES | {"adapter"} for seed in seeds)
    found = json.loads((seeds_run / "seeds.json").read_text())
    assert found["seeds"] == [0, 1]
    values = [
        json.loads((seeds_run / seed / "validation.json").read_text())["accuracy"] for seed in seeds
    ]
    accuracy = found["validation"]["accuracy"]
    assert accuracy["values"] == values
    assert accuracy["mean"] == pytest.approx(np.mean(values))
    assert accuracy["standard_deviation"] == pytest.approx(np.std(values, ddof=1))
    card = (seeds_run / "README.md").read_text()
    assert f"{accuracy['mean']:.4f} ± {accuracy['standard_deviation']:.4f}" in card
    assert f"| [1](seed-1/README.md) | {values[1]:.4f} |" in card


@pytest.mark.slow
def test_a_seed_is_the_run_it_would_be_alone(lora_run, seeds_run):
    """Whatever was trained before it in the same process; `lora_run` has seed 1."""
    weights = [
        (path / "adapter" / "adapter_model.safetensors").read_bytes()
        for path in (lora_run, seeds_run / "seed-1", seeds_run / "seed-0")
    ]
    assert weights[0] == weights[1] != weights[2]
    alone, seed = (
        yaml.safe_load((path / "options.yaml").read_text())
        for path in (lora_run, seeds_run / "seed-1")
    )
    assert alone == seed


@pytest.mark.slow
@pytest.mark.parametrize("stopped", ["at its end", "before its first checkpoint"])
def test_resuming_seeds_keeps_the_finished_and_does_the_rest(home, seeds_run, capsys, stopped):
    kept = snapshot(seeds_run / "seed-0")
    weights = seeds_run / "seed-1" / "adapter" / "adapter_model.safetensors"
    expected = weights.read_bytes()
    (seeds_run / "seed-1" / "README.md").unlink()
    weights.unlink()
    if stopped != "at its end":
        shutil.rmtree(seeds_run / "seed-1" / "checkpoints")
    assert run(home, "seeds", "--seeds", 2, "--resume") == 0
    shown = capsys.readouterr().out
    assert "seed 0: finished before" in shown
    assert ("epoch 1/2" in shown) == (stopped != "at its end")
    assert snapshot(seeds_run / "seed-0") == kept
    assert weights.read_bytes() == expected


def test_seeds_are_refused_where_a_run_would_be(home, seeds_run, capsys):
    paths = ["--dataset_dir", home / "data", "--pretrained", home / "base"]
    flags = [*paths, "--output_dir", seeds_run, "--epochs", 2, "--learning_rate", "1e-2"]
    line = refused(train.main, capsys, *flags, "--seeds", 2)
    assert "use --resume, --overwrite or another --output_dir" in line
    line = refused(train.main, capsys, *flags, "--seeds", 3, "--resume")
    assert "was started with --seeds 2, not 3" in line
    assert "--seeds must be at least 1" in refused(train.main, capsys, *flags, "--seeds", 0)
    line = refused(test.main, capsys, "--run_dir", seeds_run, "--premise", "a", "--hypothesis", "b")
    assert "holds a run for each seed: give --run_dir one of them" in line
