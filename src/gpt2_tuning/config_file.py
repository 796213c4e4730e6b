"""A YAML file of flags: `name: value` lines, as `--config` takes them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt2_tuning.checks import shown
from gpt2_tuning.errors import UserError
from gpt2_tuning.flags import Form, Given, advice, check_form, field_of, in_file
from gpt2_tuning.small_files import read_yaml


def in_config(path: Path, forms: Mapping[str, Form]) -> list[Given]:
    """The flags that a YAML file sets.

    Raises:
        UserError: the file cannot be read, a name is no flag, or its value has another form.
    """
    found = []
    for key, value in read_config(path).items():
        name = field_of(str(key), forms)
        if name is None:
            raise UserError(f"{path}: unknown flag {key}{advice(str(key), forms)}")
        if name == "config":
            raise UserError(f"{path}: a config names no other config")
        found.append(from_yaml(name, value, forms[name], str(path)))
    return found


def from_yaml(name: str, value: object, form: Form, file: str) -> Given:
    """A setting of a YAML file as a flag."""
    called = in_file(name, file)
    if form.switch:
        if not isinstance(value, bool):
            raise UserError(f"{called} must be true or false, not {shown(value)}")
        return Given(name, (), value, file)
    values = value if isinstance(value, list) else [value]
    for single in values:
        if isinstance(single, (bool, dict, list)):
            quotes = " (YAML's word for yes, no, on and off without quotes)"
            raise UserError(
                f"{called} must be {form.kind}, not {shown(single)}"
                f"{quotes if isinstance(single, bool) else ''}"
            )
    if isinstance(value, list) and not (form.several or form.repeated):
        raise UserError(f"{called} must be {form.kind}, not a list")
    flag = Given(name, tuple(map(str, values)), file=file)
    if any("\0" in given for given in flag.values):
        raise UserError(f"{called} holds a null character, which no file or text may have")
    if not form.repeated:
        check_form(flag, form)
    return flag


def read_config(path: Path) -> dict[Any, Any]:
    """The settings of a YAML file. Raises UserError when it cannot be read as a mapping."""
    called = f"the config {path}"
    try:
        settings = read_yaml(path, called)
    except OSError as error:
        raise UserError(f"cannot read {called}: {error.strerror}") from error
    if settings is None:
        raise UserError(f"{path} is not a config: it must hold lines of the form `name: value`")
    return settings
