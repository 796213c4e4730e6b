"""Small files that are read whole: of what kind, how large and how deep they may be.

A file of another's making may be a pipe that never ends, a gigabyte, or brackets a hundred thousand
deep: it is refused by its name before it costs anything.
"""

import collections
import io
import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from gpt2_tuning.errors import UserError

MOST_BYTES = 32 * 2**20
"""Of a small file. The largest are metadata.json of many classes and indices of many weights."""
MOST_YAML_BYTES = 2**18
"""Of a file of flags; YAML takes about five seconds a megabyte."""
MOST_DEPTH = 40
"""Of lists and objects in each other."""
TOO_DEEP = f"its lists or objects are nested more than {MOST_DEPTH} deep"
MOST_DIGITS = 40
"""Of a whole number, which some steps could not compute with if it had thousands."""
OTHER_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_regular(path: Path, called: str = "") -> None:
    """Raises UserError unless a path leads to a file, which is not opened: a pipe would wait.

    Args:
        path: what is to be read.
        called: what a message calls it; without it that is the path.

    Raises:
        UserError: it is something else.
        OSError: it is not there, or may not be looked at.
    """
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except ValueError as error:  # a null character
        raise UserError(f"{called or path} is no path: {error}") from error
    if kind != stat.S_IFREG:
        raise UserError(
            f"{called or path} is {OTHER_KINDS.get(kind, 'something else')}, not a file"
        )


def read_text(path: Path, most: int = MOST_BYTES, called: str = "") -> str:
    """A file's text, which is UTF-8; a byte-order mark is left out, line ends are Unix's.

    Args:
        path: the file.
        most: bytes that it may have.
        called: as in `check_regular`.

    Raises:
        UserError: it is no file, too large, or not UTF-8.
        OSError: it is not there, or may not be read.
    """
    check_regular(path, called)
    with path.open("rb") as file:  # the size that a file states may be wrong
        content = file.read(most + 1)
    if len(content) > most:
        raise UserError(
            f"{called or path} is larger than {most // 2**10:,} KiB, the most that is read"
        )
    try:
        return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8-sig").read()
    except UnicodeDecodeError as error:
        where = f"byte {error.start + 1}"
        raise UserError(f"{called or path} is not UTF-8 text ({where})") from error


def read_json(path: Path, kind: str = "a Hugging Face model") -> dict[str, Any]:
    """A JSON object. Raises UserError when the file is missing or is something else.

    `kind` is what a directory with such a file is.
    """
    try:
        content = parse_json(read_text(path))
    except PermissionError as error:
        raise UserError(f"{path} may not be read: permission denied (see ls -l)") from error
    except OSError as error:
        raise UserError(f"no {path.name} in {path.parent}: not {kind}") from error
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} does not hold a JSON object")
    return content


def parse_json(text: str) -> Any:
    """What a JSON text says. Raises ValueError where it says nothing, or what is not bounded."""
    try:
        content = json.loads(text, parse_int=bounded_int)
        check_depth(content)
        if "\\u" in text:
            json.dumps(content, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    except UnicodeEncodeError:
        raise ValueError("it holds half of a character (a lone surrogate)") from None
    return content


def read_yaml(path: Path, called: str = "") -> dict[Any, Any] | None:
    """The mapping that a YAML file holds; None where it holds something else.

    Args:
        path: the file.
        called: as in `check_regular`.

    Raises:
        UserError: it is no file, too large, or cannot be read as YAML.
        OSError: it is not there, or may not be read.
    """
    text = read_text(path, MOST_YAML_BYTES, called)
    try:
        content = yaml.load(text, PlainYaml)
        check_depth(content)
    except RecursionError:
        raise UserError(f"cannot read {called or path}: {TOO_DEEP}") from None
    # PyYAML's tags end in whatever int(), a lookup or a match raises.
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"cannot read {called or path}: {reason}") from error
    return content if isinstance(content, dict) else None


class PlainYaml(yaml.SafeLoader):
    """YAML's plain values; of two settings of one name YAML itself would take the last.

    An alias (`*name`) is refused: a few lines of them are a value of any size.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """A node. Raises yaml.YAMLError for an alias."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"*{self.peek_event().anchor} is an alias: write out what it is")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping. Raises yaml.YAMLError where a key comes twice."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key, count in collections.Counter(keys).items():
            if count > 1:
                raise yaml.YAMLError(f"{key} is set twice")
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """A whole number. Raises ValueError for one of too many digits."""
        check_digits(node.value)
        return super().construct_yaml_int(node)


PlainYaml.add_constructor("tag:yaml.org,2002:int", PlainYaml.construct_yaml_int)


def bounded_int(digits: str) -> int:
    """A whole number of a file. Raises ValueError for one of too many digits."""
    check_digits(digits)
    return int(digits)


def check_digits(digits: str) -> None:
    """Raises ValueError where a whole number, as it is written, has too many digits."""
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"it holds a number of {len(digits):,} digits; {MOST_DIGITS} is the most")


def check_depth(content: object) -> None:
    """Raises ValueError where lists and objects are too deep in each other."""
    level = [content]
    for _ in range(MOST_DEPTH + 1):
        level = [inner for value in level for inner in parts_of(value)]
        if not level:
            return
    raise ValueError(TOO_DEEP)


def parts_of(value: object) -> list[Any]:
    """What a list or an object holds; nothing of another value."""
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, list) else []
