"""metadata.json: what a prepared data set holds, and what training and testing rely on."""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt2_tuning.checks import is_file_name, is_text, is_whole, shown
from gpt2_tuning.data.file_tokenizer import TOKENIZER_CONFIG_FILE, TOKENIZER_FILE, read_tokenizer
from gpt2_tuning.data.metadata_fields import wrong_field
from gpt2_tuning.data.tokenizer import Tokenizer, default_tokenizer
from gpt2_tuning.errors import UserError
from gpt2_tuning.files import Tree, foreign_entry, write_text
from gpt2_tuning.paths import step_command
from gpt2_tuning.small_files import read_json

METADATA_FILE = "metadata.json"
SCHEMA_VERSION, BASE_SCHEMA_VERSION = 1, 2
"""Without a base, and with one, whose tokenizer lies beside it unless that is the default."""
PAIRS = {"entailment": ("premise", "hypothesis")}
"""What the two texts of a pair are called, by the task."""
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
    base: str | None = None
    """A Hub name or directory that the data was prepared for; None is the default of any size."""
    tokenizer: Tokenizer = dataclasses.field(default_factory=default_tokenizer, compare=False)
    """The one that the texts were tokenised with; its checksum stands for it in the file."""

    @property
    def schema_version(self) -> int:
        """Of the file."""
        return SCHEMA_VERSION if self.base is None else BASE_SCHEMA_VERSION

    @property
    def texts(self) -> tuple[str, ...]:
        """What the texts of an example are called that has a label."""
        return PAIRS.get(self.task, ("text",))

    def label_counts(self, split: str) -> list[int]:
        """How many examples of a split have each class, in the classes' order."""
        return [self.splits[split]["labels"][name] for name in self.label_names or []]

    def to_json(self) -> str:
        """The text of the file."""
        content = {name: getattr(self, name) for name in fields_of(self.schema_version)}
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"

    def save(self, directory: Path) -> None:
        """Writes the file and, where the tokenizer is not the default one, what it is read from."""
        if self.tokenizer.sha256 != default_tokenizer().sha256:
            self.tokenizer.save(directory)
        write_text(directory / METADATA_FILE, self.to_json())


def fields_of(schema_version: int) -> list[str]:
    """The fields of metadata.json, in order."""
    names = [field.name for field in dataclasses.fields(Metadata) if field.name != "tokenizer"]
    if schema_version == SCHEMA_VERSION:
        names.remove("base")
    return ["schema_version", *names]


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
    version = content["schema_version"]
    if version not in (SCHEMA_VERSION, BASE_SCHEMA_VERSION):
        raise UserError(
            f"{directory} was prepared with schema_version {shown(version)}, not "
            f"{SCHEMA_VERSION} or {BASE_SCHEMA_VERSION}: {remedy}"
        )
    tokenizer = tokenizer_of(content, directory, remedy)
    expected = {
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
    complete = set(content) == set(fields_of(version))
    if not complete or not all(map(names_own_files, content["splits"].values())):
        raise UserError(f"{directory / METADATA_FILE} is incomplete or altered: {remedy}")
    if wrong := wrong_field(content):
        raise UserError(f"{directory / METADATA_FILE} was altered: {wrong}: {remedy}")
    del content["schema_version"]  # which follows from whether there is a base
    return Metadata(**content, tokenizer=tokenizer)


def tokenizer_of(content: Mapping[str, Any], directory: Path, remedy: str) -> Tokenizer:
    """The tokenizer beside a metadata.json, the default where none needs to lie there.

    Raises:
        UserError: its files are missing or damaged.
    """
    needed = content["schema_version"] == BASE_SCHEMA_VERSION
    if not needed or content["tokenizer_sha256"] == default_tokenizer().sha256:
        return default_tokenizer()
    try:
        return read_tokenizer(directory)
    except UserError as error:
        raise UserError(f"{error}: {remedy}") from error


def read_content(directory: Path) -> dict[str, Any] | None:
    """The content of metadata.json of whatever version, or None where it is not ours."""
    try:
        content = read_json(directory / METADATA_FILE)
    except (OSError, ValueError):
        return None
    ours = (
        is_whole(content.get("schema_version"))
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
    own: Tree = {}
    if ours:
        names = (METADATA_FILE, TOKENIZER_FILE, TOKENIZER_CONFIG_FILE, *ours)
        own = {re.escape(name): None for name in names}
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
