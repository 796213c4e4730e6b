"""A YAML file of flags: `name: value` lines, as `--config` takes them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from gpt2_tuning.errors import UserError
from gpt2_tuning.flags import Form, Given, advice, check_form, in_file


def in_config(path: Path, forms: Mapping[str, Form]) -> list[Given]:
    """The flags that a YAML file sets.

    Raises:
        UserError: the file cannot be read, a name is no flag, or its value has another form.
    """
    found = []
    for key, value in read_config(path).items():
        name = str(key)
        if name not in forms:
            raise UserError(f"{path}: unknown flag {name}{advice(name, forms)}")
        if name == "config":
            raise UserError(f"{path}: a config names no other config")
        found.append(from_yaml(name, value, forms[name], str(path)))
    return found


def from_yaml(name: str, value: object, form: Form, file: str) -> Given:
    """A setting of a YAML file as a flag."""
    shown = in_file(name, file)
    if form.switch:
        if not isinstance(value, bool):
            raise UserError(f"{shown} must be true or false, not {value}")
        return Given(name, (), value, file)
    values = value if isinstance(value, list) else [value]
    for single in values:
        if isinstance(single, (bool, dict, list)):
            quotes = " (YAML's word for yes, no, on and off without quotes)"
            raise UserError(
                f"{shown} must be {form.kind}, not {single}"
                f"{quotes if isinstance(single, bool) else ''}"
            )
    if isinstance(value, list) and not (form.several or form.repeated):
        raise UserError(f"{shown} must be {form.kind}, not a list")
    flag = Given(name, tuple(map(str, values)), file=file)
    if not form.repeated:
        check_form(flag, form)
    return flag


class EachKeyOnce(yaml.SafeLoader):
    """YAML's plain values; of two settings of one name YAML itself would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping. Raises yaml.YAMLError where a key comes twice."""
        keys = [key.value for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"{key} is set twice")
        return super().construct_mapping(node, deep)


def read_config(path: Path) -> dict[Any, Any]:
    """The settings of a YAML file. Raises UserError when it cannot be read as a mapping."""
    try:
        settings = yaml.load(path.read_text(encoding="utf-8"), EachKeyOnce)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"cannot read the config {path}: {error}") from error
    if not isinstance(settings, dict):
        raise UserError(f"{path} is not a config: it must hold lines of the form `name: value`")
    return settings
