"""What a base's files say to preparation: its tokenizer, and how long an example may be."""

from pathlib import Path

from gpt2_tuning.data.base import Base
from gpt2_tuning.data.file_tokenizer import TOKENIZER_FILE, read_tokenizer
from gpt2_tuning.data.tokenizer import Tokenizer, default_tokenizer
from gpt2_tuning.errors import UserError
from gpt2_tuning.families import known
from gpt2_tuning.families.family import Family
from gpt2_tuning.formats import hub
from gpt2_tuning.formats.directory import CONFIG_FILE
from gpt2_tuning.small_files import read_json


def find_base(name: str | None) -> Base:
    """The base that `--base` names; None is GPT-2 of any size.

    Raises:
        UserError: it is not there, is of no known family, or its tokenizer cannot be used.
    """
    if name is None:
        return Base(None, default_tokenizer(), known.MAX_SEQ_LEN)
    directory = hub.find_description(name)
    config = known.config_of_file(directory / CONFIG_FILE, read_json(directory / CONFIG_FILE))
    tokenizer = tokenizer_in(directory, known.family_of(config))
    if config.decoder.vocabulary < tokenizer.vocabulary:
        raise UserError(
            f"{name} has {config.decoder.vocabulary:,} token ids, its tokenizer "
            f"{tokenizer.vocabulary:,}: they do not belong together"
        )
    public = hub.public_name(name)
    named = str(Path(public).absolute()) if Path(public).is_dir() else public
    return Base(named, tokenizer, config.decoder.positions, directory)


def tokenizer_in(directory: Path, family: Family) -> Tokenizer:
    """The tokenizer of a base's directory, or its family's where there are no files of one.

    Raises:
        UserError: there is neither, or it cannot be used.
    """
    if family.has_gpt2_tokenizer and not (directory / TOKENIZER_FILE).exists():
        return default_tokenizer()
    return read_tokenizer(directory)
