"""Data that is prepared for a base has its tokenizer, and the run goes on with both."""

import importlib
import json
import shutil

import pytest
from bases import BYTES, KINDS, MARKED, write_base
from script_runs import names, read, refused

from gpt2_tuning.data.file_tokenizer import read_tokenizer
from gpt2_tuning.data.metadata import read_metadata
from gpt2_tuning.data.preview import END_MARK
from gpt2_tuning.data.tfrecords import read_records
from gpt2_tuning.data.tokenizer import GPT2Tokenizer
from gpt2_tuning.families.llama import LlamaConfig
from gpt2_tuning.inference.generation import generate_text
from gpt2_tuning.models.language_model import LanguageModel

TASKS = ("classification", "entailment", "instruction", "text")
TOKENIZER_FILES = {"tokenizer.json", "tokenizer_config.json"}


def main(task, step):
    return importlib.import_module(f"{task}_tuning.{step}").main


def run(task, step, *flags):
    assert main(task, step)([str(flag) for flag in flags]) == 0


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    home = tmp_path_factory.mktemp("bases")
    return {kind: write_base(home, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def prepared(bases, tmp_path_factory):
    """The sample of a task for a base of this kind, prepared once."""
    home, made = tmp_path_factory.mktemp("data"), {}

    def prepare(task, kind):
        if (task, kind) not in made:
            made[task, kind] = home / f"{task}-{kind}"
            flags = ["--dataset", "sample", "--limit", 24, "--output_dir", made[task, kind]]
            run(task, "prep_dataset", "--base", bases[kind], *flags)
        return made[task, kind]

    return prepare


@pytest.mark.parametrize("task", TASKS)
def test_what_code_puts_is_seen_in_every_task(task, bases, tmp_path, capsys):
    flags = ["--dataset", "sample", "--limit", 24, "--output_dir", tmp_path / "set"]
    run(task, "prep_dataset", "--base", bases[MARKED], *flags, "--show", 2)
    shown = capsys.readouterr().out
    first = shown[shown.index("example 1 of ") : shown.index("example 2 of ")]
    assert "---\n<s>" in first
    text, _, padding = first.partition("--- padding ---")
    assert padding.strip().startswith(f"{END_MARK} x ")
    assert (END_MARK in text) == (task != "classification")
    assert ("--- class ---" in text) == (task in ("classification", "entailment"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", TASKS)
def test_every_example_is_of_the_bases_tokenizer(task, kind, prepared, bases):
    directory, own = prepared(task, kind), read_tokenizer(bases[kind])
    assert names(directory) >= TOKENIZER_FILES
    content = read(directory)
    assert (content["schema_version"], content["base"]) == (2, str(bases[kind]))
    metadata = read_metadata(directory, task)
    assert metadata.tokenizer.sha256 == own.sha256 == content["tokenizer_sha256"]
    records = read_records(directory, metadata, "train")
    for row in range(len(records)):
        ids = records.row(row).tolist()
        begins = own.start is not None and (task != "text" or ids[0] == own.start)
        assert ids[:1] == [own.start] or not begins
        assert own.start not in ids[1:]
        if task == "entailment":
            assert ids.count(own.separator) == 1
        elif task == "instruction":
            assert ids[-1] == own.end


def test_without_a_base_nothing_is_written_otherwise(tmp_path):
    run("classification", "prep_dataset", "--dataset", "sample", "--output_dir", tmp_path / "data")
    assert read(tmp_path / "data")["schema_version"] == 1
    assert not names(tmp_path / "data") & TOKENIZER_FILES


def test_the_start_is_shown(bases, tmp_path, capsys):
    flags = ["--dataset", "sample", "--limit", 8, "--show", 1, "--output_dir", tmp_path / "data"]
    run("instruction", "prep_dataset", "--base", bases[MARKED], *flags)
    assert "<s>" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "rank"), [pytest.param(BYTES, 0, marks=pytest.mark.slow), (MARKED, 4)]
)
def test_a_run_takes_the_datas_base_and_needs_no_tokenizer_elsewhere(
    kind, rank, prepared, bases, tmp_path, capsys
):
    data, base = tmp_path / "data", tmp_path / "base"
    shutil.copytree(prepared("instruction", kind), data)
    shutil.copytree(bases[kind], base)
    content = json.loads((data / "metadata.json").read_text())
    (data / "metadata.json").write_text(json.dumps({**content, "base": str(base)}))
    out = tmp_path / "run"
    flags = ["--epochs", 1, "--lora_rank", rank, "--output_dir", out]
    run("instruction", "train", "--dataset_dir", data, *flags)
    assert f"base: {base}" in capsys.readouterr().out
    assert names(out) >= TOKENIZER_FILES
    shutil.rmtree(data)
    for name in TOKENIZER_FILES:  # what the run has of them is enough
        (base / name).unlink()
    flags = ["--prompt", "Where does the tide go?", "--max_new_tokens", 4]
    run("instruction", "test", "--run_dir", out, *flags)
    if rank == 0:
        assert names(out / "model") >= TOKENIZER_FILES
        model = LanguageModel.from_pretrained(out / "model")
        assert model.tokenizer.sha256 == content["tokenizer_sha256"]


def test_a_model_of_a_directory_works_in_its_own_tokens(bases):
    model = LanguageModel.from_pretrained(bases[MARKED])
    own = read_tokenizer(bases[MARKED])
    text = "The tide"
    assert own.start is not None
    prompt = [own.start, *own.encode(text)]
    assert generate_text(model, [text], 8) == generate_text(model, [prompt], 8)


def test_another_base_than_the_datas_is_refused(prepared, bases, tmp_path, capsys):
    flags = ["--dataset_dir", prepared("classification", BYTES), "--epochs", 1]
    other = ["--pretrained", bases[MARKED], "--output_dir", tmp_path / "run"]
    line = refused(main("classification", "train"), capsys, *flags, *other)
    assert "another tokenizer than that of" in line
    assert f"prepare it with --base {bases[MARKED]}" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", '{"broken', "tokenizer.json"),
        ("tokenizer.model", "", "`AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)`"),
        ("vocab.json", "{}", "no tokenizer.json in"),
    ],
)
def test_a_base_whose_tokenizer_cannot_be_read_is_refused_before_its_weights_are(
    name, content, message, tmp_path, capsys, monkeypatch
):
    config = LlamaConfig.from_size("tiny", vocab_size=50300, hidden_size=16, head_dim=4)
    LanguageModel(config).built_now().save_pretrained(tmp_path / "base")
    (tmp_path / "base" / name).write_text(content)
    data = ["--dataset", "sample", "--limit", 24, "--output_dir", tmp_path / "data"]
    run("text", "prep_dataset", *data)
    monkeypatch.setattr(LanguageModel, "from_pretrained", lambda *_, **__: 1 / 0)
    flags = ["--dataset_dir", tmp_path / "data", "--pretrained", tmp_path / "base"]
    line = refused(main("text", "train"), capsys, *flags, "--output_dir", tmp_path / "run")
    assert message in line
    assert not (tmp_path / "run").exists()


def test_a_length_that_nobody_chose_fits_the_base(tmp_path, capsys):
    base = write_base(tmp_path, BYTES)
    fields = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**fields, "n_positions": 96}))
    flags = ["--dataset", "sample", "--limit", 24, "--output_dir", tmp_path / "data"]
    run("entailment", "prep_dataset", "--base", base, *flags)
    assert "examples of at most 96 tokens" in capsys.readouterr().out
    assert read(tmp_path / "data")["seq_len"] == 96
    line = refused(
        main("entailment", "prep_dataset"), capsys, "--base", base, "--seq_len", 100, *flags
    )
    assert "between 3 and 96, not 100" in line


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_random_weights_have_a_row_for_every_token_and_end_as_it_does(family, prepared, tmp_path):
    flags = ["--model_size", "tiny", "--pretrained", "none", "--output_dir", tmp_path / "run"]
    data = prepared("classification", MARKED)
    flags += ["--family", family, "--lora_rank", 0]
    run("classification", "train", "--dataset_dir", data, "--epochs", 1, *flags)
    config = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    tokenizer = read_metadata(data, "classification").tokenizer
    assert config["vocab_size"] == tokenizer.vocabulary
    ends = (config["bos_token_id"], config["eos_token_id"])
    assert ends == (tokenizer.start, tokenizer.end)
    run("classification", "test", "--run_dir", tmp_path / "run", "--text", "I feel great")


def test_an_altered_or_missing_tokenizer_is_named(prepared, tmp_path, capsys):
    data = tmp_path / "data"
    shutil.copytree(prepared("text", BYTES), data)
    flags = ["--dataset_dir", data, "--output_dir", tmp_path / "run"]
    path = data / "tokenizer.json"
    path.write_text(path.read_text() + "\n")
    assert "was prepared with tokenizer_sha256" in refused(main("text", "train"), capsys, *flags)
    path.unlink()
    assert "no tokenizer.json in" in refused(main("text", "train"), capsys, *flags)


def test_a_base_that_is_none_or_too_short_is_named(bases, tmp_path, capsys):
    flags = ["--dataset", "sample", "--output_dir", tmp_path / "data"]
    prepare = main("text", "prep_dataset")
    (tmp_path / "empty").mkdir()
    line = refused(prepare, capsys, "--base", tmp_path / "empty", *flags)
    assert "no config.json in" in line
    long = ["--base", bases[BYTES], "--seq_len", 1101]
    assert "between 3 and 1100, not 1101" in refused(prepare, capsys, *long, *flags)
    shutil.copytree(bases[MARKED], tmp_path / "mixed")
    GPT2Tokenizer().save(tmp_path / "mixed")
    line = refused(prepare, capsys, "--base", tmp_path / "mixed", *flags)
    assert "they do not belong together" in line
    assert not (tmp_path / "data").exists()
