"""A small prepared data set for the tests that write and read them."""

from gpt2_tuning.data.examples import Example
from gpt2_tuning.data.metadata import Metadata, read_metadata
from gpt2_tuning.data.tfrecords import read_records
from gpt2_tuning.data.tokenizer import GPT2Tokenizer
from gpt2_tuning.data.writing import write_dataset
from gpt2_tuning.families.gpt2 import END_OF_TEXT

SEQ_LEN = 6
ROWS: dict[str, list] = {
    "train": [([1, 2, 3], 0), ([END_OF_TEXT, 5, END_OF_TEXT], 1), ([7] * 6, 0), None, ([8], 1)],
    "validation": [([4, END_OF_TEXT], 1)],
    "test": [([0], 0), None],
}
FILES = ["metadata.json", "test.tfrecord.gz", "train.tfrecord.gz", "validation.tfrecord.gz"]


def header(**changes):
    fields = {
        "task": "classification",
        "dataset": {"name": "rows.csv", "source": "files", "fingerprint": "f" * 64},
        "tokenizer_sha256": GPT2Tokenizer().sha256,
        "seq_len": SEQ_LEN,
        "columns": ["label"],
        "label_names": ["no", "yes"],
        "template": None,
        "split_seed": 0,
        "splits": {name: {"origin": "given", "rows": len(rows)} for name, rows in ROWS.items()},
        "pad_token_id": END_OF_TEXT,
    }
    return Metadata(**{**fields, **changes})


def examples(rows):
    return [row and Example(row[0], {"label": row[1]}) for row in rows]


def write(directory, rows=ROWS, **changes):
    return write_dataset(
        directory, header(**changes), {split: examples(found) for split, found in rows.items()}
    )


def listing(directory):
    return sorted(path.name for path in directory.iterdir())


def read_split(directory, split="train"):
    return read_records(directory, read_metadata(directory, "classification"), split)
