"""Examples as the bytes of a tf.train.Example each, put together in protobuf's wire format.

The bytes are those of TensorFlow's own SerializeToString(deterministic=True). To build a message
for every row took longer than to tokenise it, and needs TensorFlow.
Source: https://protobuf.dev/programming-guides/encoding/
"""

import functools
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from gpt2_tuning.data.examples import LEARNT, Example

GROUP_BITS = 7
"""Bits of a number in each byte of a varint; the eighth says whether another byte follows."""


def serialized(
    examples: Sequence[Example], seq_len: int, columns: Sequence[str], pad: int
) -> list[bytes]:
    """Each example as a record, always the same for the same example.

    Args:
        examples: the rows.
        seq_len: the length that token ids are padded to.
        columns: what each record holds beside token ids and length.
        pad: the id that they are padded with.

    Raises:
        ValueError: an example does not fit seq_len, or has other extras than `columns`: a defect.
    """
    wanted = set(columns)
    for example in examples:
        length = len(example.token_ids)
        if not 1 <= length <= seq_len or example.extras.keys() != wanted:
            raise ValueError(
                f"{length} tokens, extras {dict(example.extras)}: not a row of this set"
            )
    # A deterministic map has its keys in order; LEARNT is the first of those that go with it.
    single = ["length", *(name for name in columns if name != LEARNT)]
    first, last = (
        tuple(sorted(name for name in single if (name < "token_ids") == before))
        for before in (True, False)
    )
    records = []
    for example, ids in zip(examples, packed_ids(examples, seq_len, pad), strict=True):
        numbers = {"length": len(example.token_ids), **example.extras}
        learnt = b""
        if LEARNT in wanted:
            flags = bytes(example.extras[LEARNT]).ljust(seq_len, b"\0")
            learnt = opening(LEARNT, seq_len) + flags
        content = (
            learnt
            + singles(first, tuple([numbers[name] for name in first]))
            + opening("token_ids", len(ids))
            + ids
            + singles(last, tuple([numbers[name] for name in last]))
        )
        records.append(delimited(1, content))
    return records


def packed_ids(examples: Sequence[Example], seq_len: int, pad: int) -> Iterator[bytes]:
    """The token ids of each example as varints, with those of padding up to seq_len."""
    lengths = [len(example.token_ids) for example in examples]
    ids = itertools.chain.from_iterable(example.token_ids for example in examples)
    packed, ends = varints(np.fromiter(ids, np.int64, sum(lengths)))
    padding = varint(pad)
    start = 0
    for length, stop in zip(lengths, ends[np.cumsum(lengths, dtype=int) - 1].tolist(), strict=True):
        yield packed[start:stop] + padding * (seq_len - length)
        start = stop


def int64_feature(name: str, values: bytes) -> bytes:
    """An entry of the map Features.feature: a name and an Int64List of packed varints."""
    feature = delimited(3, delimited(1, values))
    return delimited(1, delimited(1, name.encode()) + delimited(2, feature))


@functools.lru_cache(4096)
def opening(name: str, size: int) -> bytes:
    """An entry without its values, which are its last `size` bytes; rows of one size share it."""
    entry = int64_feature(name, bytes(size))
    return entry[: len(entry) - size]


@functools.lru_cache(4096)
def singles(names: tuple[str, ...], values: tuple[int, ...]) -> bytes:
    """The entries of single numbers; lengths and classes repeat."""
    return b"".join(map(int64_feature, names, map(varint, values)))


def delimited(field: int, content: bytes) -> bytes:
    """A field of the wire type LEN: its number, the length of its content, its content."""
    return varint(field << 3 | 2) + varint(len(content)) + content


@functools.lru_cache(4096)
def varint(number: int) -> bytes:
    """One number, not negative, as a varint."""
    return varints(np.array([number]))[0]


def varints(numbers: np.ndarray) -> tuple[bytes, np.ndarray]:
    """Numbers, int64 [n] and not negative, as varints end to end, and where each of them ends.

    [1, 300] -> bytes 01 AC 02, ends [1, 3]
    """
    most = max(1, -(-int(numbers.max(initial=0)).bit_length() // GROUP_BITS))
    rest = numbers[:, np.newaxis] >> GROUP_BITS * np.arange(most)  # [n, most], lowest bits first
    written = rest > 0
    written[:, 0] = True
    groups = (rest & 0x7F) | (rest > 0x7F) << GROUP_BITS
    return groups[written].astype(np.uint8).tobytes(), np.cumsum(written.sum(axis=1))
