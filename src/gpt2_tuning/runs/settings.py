"""The flags of a run, as its options.yaml has them."""

import types
import typing
from pathlib import Path
from typing import Any, Literal

from gpt2_tuning import schema
from gpt2_tuning.checks import are_texts, is_number
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.known import DEFAULT, published
from gpt2_tuning.flags import kind_of
from gpt2_tuning.options.training import ClassifierOptions
from gpt2_tuning.schema import Rule, Schema
from gpt2_tuning.small_files import read_yaml

OPTIONS_FILE = "options.yaml"
MOST = 2**63
"""Of whole numbers, which are computed with in 64 bits."""


def read_settings(run_dir: Path) -> dict[str, Any]:
    """The flags a run was started with.

    Raises:
        UserError: the directory is no run, or a flag has a value of another kind.
    """
    path = run_dir / OPTIONS_FILE
    try:
        settings = read_yaml(path)
    except OSError as error:
        raise UserError(f"{run_dir} is not a run: it has no readable {OPTIONS_FILE}") from error
    if settings is None:
        raise UserError(f"{path} holds no settings")
    if wrong := schema.wrong_field(settings, SCHEMA):
        raise UserError(f"{path} was altered: {wrong}: bring back the run's own file")
    return settings


def base_of_run(run_dir: Path) -> str:
    """What a run began from: a Hub name, a directory, a size, or `none`.

    Raises:
        UserError: the directory is no run, or its flags do not say.
    """
    settings = read_settings(run_dir)
    size = settings.get("model_size")
    if base := settings.get("pretrained"):
        return base
    if not size:
        raise UserError(f"{run_dir / OPTIONS_FILE} has neither pretrained nor model_size")
    return published(size, settings.get("family") or DEFAULT)


def rule_of(hint: Any) -> Rule:
    """What a flag of this type may be in a file."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        rules = [rule_of(member) for member in typing.get_args(hint)]
        words = " or ".join(rule.words for rule in rules)
        return Rule(lambda value: any(rule.holds(value) for rule in rules), words)
    if typing.get_origin(hint) is Literal:
        return Rule(lambda value: value in typing.get_args(hint), kind_of(hint, None))
    if typing.get_origin(hint) is tuple:
        return Rule(are_texts, "a list of texts")
    return PLAIN[hint]


PLAIN = {
    bool: schema.SWITCH,
    int: schema.whole(-MOST, MOST)._replace(words="a whole number"),
    float: Rule(is_number, "a number"),
    str: schema.TEXT,
    Path: schema.TEXT._replace(words="a path"),
    types.NoneType: Rule(lambda value: value is None, "null"),
}
SCHEMA: Schema = {
    name.removesuffix("_"): rule_of(hint)
    for name, hint in typing.get_type_hints(ClassifierOptions).items()
    if typing.get_origin(hint) is not typing.ClassVar
}
"""The flags of any train.py; language models have a few less."""
