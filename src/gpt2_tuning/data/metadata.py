"""metadata.json: what a prepared data set holds, and what training and testing rely on."""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt2_tuning.checks import is_file_name, is_text, shown
from gpt2_tuning.data.metadata_fields import wrong_field
from gpt2_tuning.data.tokenizer import Tokenizer, load_tokenizer
from gpt2_tuning.errors import UserError
from gpt2_tuning.files import Tree, foreign_entry
from gpt2_tuning.paths import step_command
from gpt2_tuning.small_files import read_json

METADATA_FILE = "metadata.json"
SCHEMA_VERSION = 1
RECORDS_NAME = re.compile(r"(train|validation|test)\.tfrecord\.gz")


@dataclasses.dataclass(frozen=True)
class Metadata:
    """The content of metadata.json. The same inputs give the same bytes."""

    task: str
    dataset: dict[str, str]
    """`name`, `source` (hub, files or sample) and `fingerprint` of the rows."""
    tokenizer_sha256: str
    seq_len: int
    columns: list[str]
    """What each record holds beside token_ids and length: `label` or `prompt_length`."""
    label_names: list[str] | None
    template: dict[str, str] | None
    """`name` and `text` of the prompt, where the task has one."""
    split_seed: int
    splits: dict[str, dict[str, Any]]
    """For each split its `files` (name and sha256), its `origin` and what the report found."""
    pad_token_id: int
    schema_version: int = SCHEMA_VERSION

    @property
    def tokenizer(self) -> Tokenizer:
        """The one that the texts were tokenised with."""
        return load_tokenizer()

    def label_counts(self, split: str) -> list[int]:
        """How many examples of a split have each class, in the classes' order."""
        return [self.splits[split]["labels"][name] for name in self.label_names or []]

    def to_json(self) -> str:
        """The text of the file."""
        content = {"schema_version": self.schema_version, **dataclasses.asdict(self)}
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


FIELDS = {field.name for field in dataclasses.fields(Metadata)}


def read_metadata(directory: Path, task: str) -> Metadata:
    """Reads the metadata.json of a prepared data set, or the copy of it in a run directory.

    Raises:
        UserError: it is missing, is not ours, is of another version, task or tokenizer, or a field
            holds what it cannot.
    """
    remedy = prepare_command(task)
    if directory.is_file():
        raise UserError(
            f"{directory} is a file, not a prepared data set: `{step_command('prepare', task)}"
            f" --train_file {directory}` makes one of it"
        )
    if not directory.is_dir():
        raise UserError(f"no such directory: {directory}: {remedy}")
    if not (directory / METADATA_FILE).is_file():
        raise UserError(f"{directory} is not a prepared data set (no {METADATA_FILE}): {remedy}")
    content = read_content(directory)
    if content is None:
        raise UserError(f"{directory / METADATA_FILE} was not written by gpt2-tuning: {remedy}")
    tokenizer = load_tokenizer()
    expected = {
        "schema_version": SCHEMA_VERSION,
        "task": task,
        "tokenizer_sha256": tokenizer.sha256,
        "pad_token_id": tokenizer.pad,
    }
    for name, value in expected.items():
        found = content.get(name)
        if type(found) is not type(value) or found != value:
            differs = f"{name} {shown(found)}, not {value!r}"
            if name == "task":
                remedy += f", or train on this with {train_command(content, directory)}"
            raise UserError(f"{directory} was prepared with {differs}: {remedy}")
    if set(content) != FIELDS or not all(map(names_own_files, content["splits"].values())):
        raise UserError(f"{directory / METADATA_FILE} is incomplete or altered: {remedy}")
    if wrong := wrong_field(content):
        raise UserError(f"{directory / METADATA_FILE} was altered: {wrong}: {remedy}")
    return Metadata(**content)


def read_content(directory: Path) -> dict[str, Any] | None:
    """The content of metadata.json of whatever version, or None where it is not ours."""
    try:
        content = read_json(directory / METADATA_FILE)
    except (OSError, ValueError):
        return None
    ours = (
        isinstance(content.get("schema_version"), int)
        and isinstance(content.get("splits"), dict)
        and is_text(content.get("task"))
        and re.fullmatch("[a-z_]{1,40}", content["task"])  # it becomes part of a command
        and "tokenizer_sha256" in content
    )
    return content if ours else None


def foreign_in_dataset(directory: Path) -> Path | None:
    """The first thing in a directory that is not of a data set of ours, of whatever version.

    None where it holds such a data set and nothing else, or nothing at all. metadata.json does not
    say what is ours: it might name any file.
    """
    content = read_content(directory) or {"splits": {}}
    splits = content["splits"].values()
    listed = {file["name"] for split in splits if names_own_files(split) for file in split["files"]}
    ours = [name for name in listed if RECORDS_NAME.fullmatch(name)]
    own: Tree = {re.escape(name): None for name in (METADATA_FILE, *ours)} if ours else {}
    return foreign_entry(directory, own)


def names_own_files(split: object) -> bool:
    """Whether a split lists files, and only such as lie beside metadata.json."""
    if not isinstance(split, Mapping) or not isinstance(split.get("files"), list):
        return False
    return all(
        isinstance(file, Mapping) and is_file_name(file.get("name")) for file in split["files"]
    )


def train_command(content: Mapping[str, Any], directory: Path) -> str:
    """What trains on a data set, by the content of its metadata.json."""
    return f"`{step_command('train', content['task'])} --dataset_dir {directory}`"


def prepare_command(task: str) -> str:
    """What to do about a data set that cannot be used."""
    return f"prepare it with `{step_command('prepare', task)}`"
