"""How `make fuzz` spoils a file or flags: by bytes, by values, by what lies in the file's place.

Every mutation follows from the random numbers that it is given and from what it spoils alone.
"""

import dataclasses
import gzip
import io
import json
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

import yaml
from hostile_content import ANYTHING, WHOLE, changed_json, places_of

TOKENS = [
    *(b"\0", b"\r", b"\r\n", b"\n\n", b'"', b"'", b",", b"\t", b";", b"{", b"}", b"[", b"]", b"\\"),
    *(b"\xff\xfe", b"\xef\xbb\xbf", b"\xe9", b"\xed\xa0\x80", b"\xf0\x9f", b"\\ud800", b"&a *a"),
    *(b"NaN", b"-1", b"9" * 400, b"1e999", b"null", b"<|endoftext|>", b"{{", b"%s", b"${x}"),
    *(b"!!python/object/apply:os.system [x]", b"../../x", b"/dev/zero", b"(.*.*)*$", b"x" * 70_000),
]
"""What means something to some reader."""
VALUES = [
    *("-5", "0", "1", "1.5", "-0", "nan", "inf", "1e999", "9" * 30, "9999999999999", "", " ", "x"),
    *("True", "None", "--x", "-", "\u00e9", "\udcff", "a" * 5000, "1_000", "0x10", "\u0663", "[1]"),
    *("100000", "99999999", "none", "(.*.*)*$", "../x", "text", "label", "h.0", "\n", "{}"),
]
"""Of flags."""
PLACES = ("pipe", "device", "directory", "missing", "dangling", "loop", "empty", "sparse")
SPARSE = 3 * 2**30
"""Bytes of a file that takes no room."""
HEADER = 8
"""Bytes before a safetensors file's JSON, which say how long that is."""


@dataclasses.dataclass(frozen=True)
class Mutation:
    """What takes a file's place."""

    words: str
    make: Callable[[Path], object]
    """Puts it there; nothing lies there."""
    touches: int | None = None
    """How many rows it can change at most; None is all."""


def mutation(random_: random.Random, path: Path) -> Mutation:
    """One of a file."""
    kinds: list[Callable[[random.Random, Path], Mutation]] = [
        of_bytes,
        of_bytes,
        of_place,
        of_whole,
    ]
    name = path.name
    if name.endswith((".json", ".jsonl", ".yaml")):
        kinds += [of_values] * 4
    if name.endswith(".safetensors"):
        kinds += [of_header] * 4
    if name.endswith(".gz"):
        kinds += [of_inner] * 3
    return random_.choice(kinds)(random_, path)


def put(words: str, content: bytes, touches: int | None = None) -> Mutation:
    """A mutation that gives a file another content."""
    return Mutation(words, lambda path: path.write_bytes(content), touches)


def of_bytes(random_: random.Random, path: Path) -> Mutation:
    """Bytes that are flipped, gone, doubled, moved, or more."""
    words, content, touches = spoilt(random_, path.read_bytes())
    return put(words, content, touches)


def spoilt(random_: random.Random, content: bytes) -> tuple[str, bytes, int | None]:
    """A content with some bytes that are others; in words; how many rows that touches."""
    at = random_.randrange(len(content) + 1)
    size = random_.choice([1, 1, 2, 8, 100, 5000])
    kind = random_.choice(
        ["flip", "cut", "double", "insert", "insert", "delete", "repeat", "noise"]
    )
    if kind == "flip":
        at = min(at, len(content) - 1)
        bit = 1 << random_.randrange(8)
        return (
            f"flip {bit} at {at}",
            content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :],
            2,
        )
    if kind == "cut":
        return f"cut at {at}", content[:at], None
    if kind == "double":
        return "double", content + content, 0
    if kind == "insert":
        token = random_.choice(TOKENS)
        return f"insert {token[:20]!r} at {at}", content[:at] + token + content[at:], 3
    if kind == "delete":
        return f"delete {size} at {at}", content[:at] + content[at + size :], None
    if kind == "repeat":
        return f"repeat {size} at {at}", content[: at + size] + content[at:], None
    noise = random_.randbytes(size)
    return f"noise of {size} at {at}", content[:at] + noise + content[at + size :], None


def of_inner(random_: random.Random, path: Path) -> Mutation:
    """What is compressed, spoilt before it is."""
    words, content, touches = spoilt(random_, gzip.decompress(path.read_bytes()))
    return put(f"inside, {words}", gzip.compress(content, 1), touches)


def of_values(random_: random.Random, path: Path) -> Mutation:
    """A value of JSON or YAML that is another, or gone."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    number = random_.randrange(len(lines)) if path.suffix == ".jsonl" else None
    if number is not None:
        text = lines[number]
    content = yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text)
    places = list(places_of(content)) if isinstance(content, dict | list) else []
    if not places:
        return of_bytes(random_, path)
    place, value = random_.choice(places), random_.choice([*ANYTHING, None])
    changed = changed_json(content, place, value)
    if number is not None:
        changed = "\n".join([*lines[:number], changed, *lines[number + 1 :]])
    return put(f"{place} is {(value or 'gone')[:40]}", changed.encode(), 1)


def of_header(random_: random.Random, path: Path) -> Mutation:
    """A value of a safetensors file's header, or the length that it states."""
    content = path.read_bytes()
    length = int.from_bytes(content[:HEADER], "little")
    header, data = json.loads(content[HEADER : HEADER + length]), content[HEADER + length :]
    if random_.random() < 0.2:
        stated = random_.choice([0, 1, length - 1, length + 1, 2**31, 2**63, 2**64 - 1])
        return put(f"header of {stated}", struct.pack("<Q", stated) + content[HEADER:])
    if random_.random() < 0.3:
        name = random_.choice(list(header))
        other = random_.choice(["module.", "_orig_mod.", "x", ""]) + name
        changed = json.dumps({other if key == name else key: header[key] for key in header})
        words = f"{name} is called {other}"
    else:
        place, value = random_.choice(list(places_of(header))), random_.choice([*ANYTHING, None])
        changed = changed_json(header, place, value)
        words = f"header: {place} is {(value or 'gone')[:40]}"
    return put(words, struct.pack("<Q", len(changed)) + changed.encode() + data)


def of_whole(random_: random.Random, path: Path) -> Mutation:
    """Another content."""
    name = random_.choice([*WHOLE, "zip", "gzip", "UTF-16 of it"])
    if name == "zip":
        return put(name, b"PK\x03\x04" + bytes(40))
    if name == "gzip":
        return put(name, gzip.compress(path.read_bytes()), 0)
    if name == "UTF-16 of it":
        is_text = path.suffix not in (".gz", ".zst", ".parquet", ".xlsx")
        content = path.read_bytes().decode("latin-1").encode("utf-16")
        return put(name, content, 0 if is_text else None)
    return put(f"content: {name}", WHOLE[name])


def of_place(random_: random.Random, path: Path) -> Mutation:
    """Something else than a file in its place."""
    kind = random_.choice(PLACES)
    return Mutation(kind, lambda place: make_place(place, kind))


def make_place(path: Path, kind: str) -> None:
    """Puts something there that is no file, or a very large one."""
    links = {"device": "/dev/zero", "dangling": "nowhere", "loop": path.name}
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind in links:
        path.symlink_to(links[kind])
    elif kind != "missing":
        with path.open("wb") as file:
            file.truncate(SPARSE if kind == "sparse" else 0)


def of_flags(random_: random.Random, flags: list[str], names: list[str]) -> tuple[str, list[str]]:
    """Flags with one of another value, or one more; of a kind that names no place.

    Args:
        random_: chooses.
        flags: those that are given.
        names: of all that there are, which may be given.
    """
    name, value = random_.choice(names), random_.choice(VALUES)
    if name in flags and random_.random() < 0.7:
        at = flags.index(name) + 1
        return f"{name} {value[:40]!r}", [*flags[:at], value, *flags[at + 1 :]]
    return f"more: {name} {value[:40]!r}", [*flags, name, value]


def stream(encoding: str, descriptor: int) -> io.TextIOWrapper:
    """What Python makes of a standard stream where the locale has that encoding."""
    errors = "backslashreplace" if descriptor == 2 else "strict"
    file = os.fdopen(os.dup(descriptor), "wb")
    return io.TextIOWrapper(file, encoding=encoding, errors=errors, line_buffering=True)
