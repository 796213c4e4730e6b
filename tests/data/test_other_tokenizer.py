"""Another tokenizer is chosen in one place, and nothing of GPT-2's is left in what is prepared."""

import ast
import importlib
import re
from pathlib import Path

import pytest
import tensorflow as tf
from wide_tokenizer import FIRST, WideTokenizer, ids_of

import gpt2_tuning
from gpt2_tuning.baselines import learnt_token_counts
from gpt2_tuning.data import pieces, tokenizer
from gpt2_tuning.data.batch_arrays import PlannedBatch, padded
from gpt2_tuning.data.datasets import pair_dataset, text_dataset
from gpt2_tuning.data.examples import Example
from gpt2_tuning.data.metadata import read_metadata
from gpt2_tuning.data.preview import END_MARK
from gpt2_tuning.data.prompts import TEMPLATES
from gpt2_tuning.data.report import SplitTally
from gpt2_tuning.data.tfrecords import read_records
from gpt2_tuning.data.tokenizer import GPT2Tokenizer, Tokenizer, id_array
from gpt2_tuning.data.words import WordTokenizer
from gpt2_tuning.errors import UserError
from gpt2_tuning.training.mistakes import texts_of

WIDE: Tokenizer = WideTokenizer()
BOOK = "".join(f"Line {number}  of a book.\n" for number in range(40))
LIBRARY = Path(gpt2_tuning.__file__).parent


@pytest.fixture
def prepare(monkeypatch, tmp_path):
    """Prepares data with the other tokenizer; returns its metadata and its train split."""
    monkeypatch.setattr(tokenizer, "GPT2Tokenizer", WideTokenizer)

    def prepared(task, *flags):
        script = importlib.import_module(f"{task}_tuning.prep_dataset")
        assert script.main(["--output_dir", str(tmp_path / task), *map(str, flags)]) == 0
        metadata = read_metadata(tmp_path / task, task)
        records = read_records(tmp_path / task, metadata, "train")
        assert (metadata.tokenizer_sha256, metadata.pad_token_id) == (WIDE.sha256, WIDE.pad)
        assert records.tokens.min() >= FIRST
        assert records.pad == WIDE.pad
        return metadata, records

    return prepared


def rows_of(records):
    return [records.row(row).tolist() for row in range(len(records))]


def stored_ids(file):
    """Of the first record of a file, with its padding."""
    record = next(iter(tf.data.TFRecordDataset(str(file), "GZIP"))).numpy()
    features = tf.train.Example.FromString(record).features.feature
    return list(features["token_ids"].int64_list.value)


def test_plain_text_is_prepared_whole_and_shown(prepare, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pieces, "PIECE", 50)
    path = tmp_path / "book.txt"
    path.write_text(BOOK + "[END]", encoding="utf-8")
    given = [
        flag for split in ("train", "validation", "test") for flag in (f"--{split}_file", path)
    ]
    metadata, records = prepare("text", *given, "--seq_len", 64, "--show", 20)
    ids = [token for row in rows_of(records) for token in row]
    assert ids == [*ids_of(BOOK + "[END]"), WIDE.end]
    counts = learnt_token_counts(records, metadata.tokenizer.vocabulary)
    assert len(counts) == WIDE.vocabulary
    assert counts.sum() == len(ids) - len(records)
    shown = capsys.readouterr().out
    assert f"[END]{END_MARK}\n--- padding" in shown
    assert "texts with [END]" in shown
    assert "note: [END] written in a text" in shown
    assert "--separator '[END]'" in shown


def test_instructions_are_prompts_responses_and_ends(prepare):
    metadata, records = prepare("instruction", "--dataset", "sample", "--limit", 20)
    template = TEMPLATES["dolly"].text.partition("{")[0]
    for ids, prompt in zip(rows_of(records), records.columns["prompt_length"], strict=True):
        assert metadata.tokenizer.decode(ids).startswith(template)
        assert WIDE.decode(ids[:prompt]).endswith("### Response:\n")
        assert ids.index(WIDE.end) == len(ids) - 1


def test_pairs_are_kept_apart_by_the_separator(prepare):
    metadata, records = prepare("entailment", "--dataset", "sample", "--limit", 20)
    for ids in rows_of(records):
        assert ids.count(WIDE.separator) == 1
        assert WIDE.end not in ids
        assert [*map(ids_of, texts_of(ids, metadata.tokenizer))] == [
            ids[: ids.index(WIDE.separator)], ids[ids.index(WIDE.separator) + 1 :],
        ]  # fmt: skip


def test_texts_are_padded_in_files_and_batches_with_the_id_of_padding(prepare, tmp_path):
    _, records = prepare("classification", "--dataset", "sample", "--limit", 20)
    first = records.row(0).tolist()
    padding = [WIDE.pad] * (128 - len(first))
    assert stored_ids(tmp_path / "classification" / "train.tfrecord.gz") == first + padding
    batch = padded(records, PlannedBatch(records.offsets[:1], 128), 1)
    assert batch["token_ids"].tolist() == [first + padding]


def test_a_set_of_another_tokenizer_is_refused(prepare, tmp_path, monkeypatch):
    prepare("classification", "--dataset", "sample", "--limit", 20)
    monkeypatch.setattr(tokenizer, "GPT2Tokenizer", GPT2Tokenizer)
    with pytest.raises(UserError, match="was prepared with tokenizer_sha256 'www"):
        read_metadata(tmp_path / "classification", "classification")


def test_datasets_have_the_ids_of_the_tokenizer_that_they_are_given():
    one = next(iter(text_dataset(["ab", "c"], layout="padded", shuffle=False, tokenizer=WIDE)))
    assert one[0]["token_ids"].numpy().tolist() == [
        [*ids_of("c"), WIDE.end, WIDE.pad],
        [*ids_of("ab"), WIDE.end],
    ]
    pairs = [("a", "b")]
    two = next(iter(pair_dataset(pairs, [0], shuffle=False, tokenizer=WIDE)))
    assert two[0]["token_ids"].numpy().tolist() == [[*ids_of("a"), WIDE.separator, *ids_of("b")]]


def test_only_a_tokenizer_by_words_is_given_words():
    texts = ["to be or not to be", "or be not to be not"]
    assert WordTokenizer(WIDE).encode_batch(texts) == [ids_of(text) for text in texts]


@pytest.mark.parametrize(("vocabulary", "size"), [(50_257, 2), (65_536, 2), (65_537, 4)])
def test_ids_are_held_in_the_smallest_type_that_has_room_for_all(vocabulary, size, monkeypatch):
    monkeypatch.setattr(WideTokenizer, "vocabulary", vocabulary)
    found = id_array(WIDE, [0, vocabulary - 1])
    assert found.tolist() == [0, vocabulary - 1]
    assert found.itemsize == size


def test_examples_that_differ_above_16_bits_are_no_duplicates(monkeypatch):
    monkeypatch.setattr(WideTokenizer, "vocabulary", 200_000)
    tally = SplitTally(set(), WIDE)
    tally.add([Example([token], {"label": 0}) for token in (7, 7 + 65_536, 7)])
    assert tally.summary(None)["duplicates_within"] == 1


FACTS = re.compile(
    r"END_OF_TEXT|TOKENIZER_IDS|50_?25[67]|endoftext|GPT2Tokenizer|GPT-2's tokenizer"
)
"""What is of GPT-2's tokenizer alone, in code or in words."""
OWN = [
    LIBRARY / "data" / f"{name}.py" for name in ("tokenizer", "file_tokenizer", "graph_tokenizer")
]
"""Where it belongs: the second has to recognise it, the third is it as operations."""
POSITIONS = 1024
NO_POSITIONS = {("tfrecords.py", "READ_BATCH = 1024")}
"""The same number, of something else."""


def test_nothing_but_the_tokenizer_knows_what_is_of_gpt2():
    rooms = [LIBRARY / name for name in ("data", "options", "training")]
    files = [file for room in rooms for file in room.rglob("*.py") if file not in OWN]
    assert len(files) > 50
    numbers = set()
    for file in (*files, LIBRARY / "baselines.py"):
        text = file.read_text(encoding="utf-8")
        assert not FACTS.findall(text), file
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Constant) and node.value == POSITIONS:
                numbers.add((file.name, text.splitlines()[node.lineno - 1].strip()))
    assert numbers == NO_POSITIONS
