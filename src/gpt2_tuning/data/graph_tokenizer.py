"""GPT-2's tokenizer as TensorFlow operations, for graphs that are run without this library.

It asks for no package beside TensorFlow, neither where the graph is made nor where it is run. What
is a letter, a number or blank space is asked of the library that tokenises elsewhere, so that both
go by one version of Unicode.
"""

import functools

import numpy as np
import tensorflow as tf
import tokenizers
from tokenizers import normalizers

from gpt2_tuning.data.tokenizer import byte_of_symbol, bytes_of_symbols, read_vocabulary

OTHER, LETTER, NUMBER, BLANK = range(4)
"""What GPT-2's splitting tells apart."""
NOTHING = -1
"""Stands for the character before the first and after the last of a text."""
SPACE, APOSTROPHE = ord(" "), ord("'")
ENDINGS = ("s", "t", "m", "d", "re", "ve", "ll")
"""What is a piece of its own after an apostrophe that begins one."""
UNICODE = 0x110000
NEVER = np.int32(2**31 - 1)
"""In the place of a merged token where two are never merged."""
SHIFT = 1 << 16
"""More than there are tokens, so that left * SHIFT + right tells pairs apart."""


def encode(texts) -> tf.RaggedTensor:
    """The token ids of texts, as `GPT2Tokenizer.encode_batch` gives them.

    Args:
        texts: string [B], UTF-8; bytes that are none count as U+FFFD.

    Returns:
        int32 [B, ragged].
    """
    characters = tf.strings.unicode_decode(texts, "UTF-8")
    codes, rows = characters.values, tf.cast(characters.value_rowids(), tf.int32)
    begins = piece_begins(codes, rows)
    pieces = tf.cumsum(tf.cast(begins, tf.int32)) - 1
    values, counts = utf8_bytes(codes)
    tokens, pieces = merged(tf.gather(byte_ids(), values), tf.repeat(pieces, counts))
    row_of_piece = tf.boolean_mask(rows, begins)
    rows = tf.cast(tf.gather(row_of_piece, pieces), tf.int64)
    count = tf.shape(texts, tf.int64)[0]
    return tf.RaggedTensor.from_value_rowids(tokens, rows, count, validate=False)


def decode(ids, kept) -> tf.Tensor:
    """The texts of tokens, string [B]; bytes that are not valid UTF-8 become U+FFFD.

    Args:
        ids: int32 [B, T], of GPT-2's vocabulary.
        kept: bool [B, T], the tokens that count.
    """
    parts = tf.where(kept, tf.gather(tf.constant(token_bytes()), ids), "")
    joined = tf.strings.reduce_join(parts, axis=1)
    return tf.strings.unicode_transcode(joined, "UTF-8", "UTF-8")


# --- splitting: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ ------


def piece_begins(codes, rows) -> tf.Tensor:
    """Where the pieces begin that no token crosses: bool [N].

    The expression of GPT-2's splitting looks at no more than the character before a place and the
    few after it, so all places are answered at once.

    Args:
        codes: int32 [N], the characters of all texts, one text after another.
        rows: int32 [N], each one's text.
    """

    def near(values, by: int, missing=NOTHING) -> tf.Tensor:
        """Of each place the value `by` places on in its text."""
        count = tf.shape(values)[0]
        places = tf.range(count) + by
        inside = tf.clip_by_value(places, 0, tf.maximum(count - 1, 0))
        same = (places == inside) & (tf.gather(rows, inside) == rows)
        return tf.where(same, tf.gather(values, inside), missing)

    kinds = kinds_of(codes)
    before, after, code_before = near(kinds, -1), near(kinds, 1), near(codes, -1)
    joined = (before == BLANK) & (code_before == SPACE)
    # An apostrophe after another sign, or after a space, belongs to what that began.
    ends = (codes == APOSTROPHE) & (before != OTHER) & ~joined
    inside = after_ending = tf.zeros_like(ends)
    for ending in ENDINGS:
        found = ends
        for place, letter in enumerate(ending, start=1):
            found &= near(codes, place) == ord(letter)
        after_ending |= near(found, -len(ending) - 1, missing=False)
        for place in range(1, len(ending) + 1):
            inside |= near(found, -place, missing=False)
    # The last of several blanks is left to what follows them.
    last_blank = (after != BLANK) & (after != NOTHING)
    blank_begins = (before != BLANK) | last_blank
    others_begin = (before != kinds) & ~joined
    begins = tf.where(kinds == BLANK, blank_begins, others_begin) & ~inside
    return begins | after_ending


def kinds_of(codes) -> tf.Tensor:
    """OTHER, LETTER, NUMBER or BLANK for each character, int32 [N]."""
    starts, kinds = ranges_of_kinds()
    return tf.gather(kinds, tf.searchsorted(starts, codes, side="right") - 1)


@functools.cache
def ranges_of_kinds() -> tuple[np.ndarray, np.ndarray]:
    """The characters at which another kind begins, int32 [R], and these kinds."""
    text = "".join(chr(code) for code in range(UNICODE) if not 0xD800 <= code < 0xE000)
    kinds = np.full(UNICODE, OTHER, np.int32)
    for kind, name in ((LETTER, r"\p{L}"), (NUMBER, r"\p{N}"), (BLANK, r"\s")):
        others = tokenizers.Regex(f"[^{name}]")
        kept = normalizers.Replace(others, "").normalize_str(text)
        kinds[np.frombuffer(kept.encode("utf-32-le"), np.uint32)] = kind
    starts = np.flatnonzero(np.diff(kinds, prepend=NOTHING)).astype(np.int32)
    return starts, kinds[starts]


# --- bytes and their symbols ---------------------------------------------------------------------


def utf8_bytes(codes) -> tuple[tf.Tensor, tf.Tensor]:
    """The bytes of characters, int32 [M], and how many each has, int32 [N]."""
    counts = 1 + sum(tf.cast(codes >= least, tf.int32) for least in (0x80, 0x800, 0x10000))
    firsts = tf.gather([0, 0x00, 0xC0, 0xE0, 0xF0], counts)
    places = tf.range(4)
    shifts = 6 * tf.maximum(counts[:, tf.newaxis] - 1 - places, 0)  # [N, 4]
    parts = tf.bitwise.right_shift(codes[:, tf.newaxis], shifts)
    later = 0x80 + parts % 64
    values = tf.where(places == 0, firsts[:, tf.newaxis] + parts, later)
    return tf.boolean_mask(values, places < counts[:, tf.newaxis]), counts


@functools.cache
def byte_ids() -> np.ndarray:
    """The token of each byte alone, int32 [256]."""
    order = list(b"".join(byte_of_symbol().values()))
    return np.argsort(order).astype(np.int32)


@functools.cache
def token_bytes() -> np.ndarray:
    """The bytes of each token, as objects: [50257]."""
    vocabulary, _ = read_vocabulary()
    return np.array(list(map(bytes_of_symbols, vocabulary)), object)


# --- merging -------------------------------------------------------------------------------------


@functools.cache
def merges() -> tuple[np.ndarray, np.ndarray]:
    """Pairs of tokens, int64 in rising order, and what each becomes, int32: less is earlier."""
    vocabulary, pairs = read_vocabulary()
    keys = np.array([vocabulary[a] * SHIFT + vocabulary[b] for a, b in pairs], np.int64)
    tokens = np.array([vocabulary[a + b] for a, b in pairs], np.int32)
    order = np.argsort(keys)
    return keys[order], tokens[order]


def merged(tokens, pieces) -> tuple[tf.Tensor, tf.Tensor]:
    """Byte-pair encoding: in every piece the earliest pair is merged, until none is left.

    Args:
        tokens: int32 [M], of bytes.
        pieces: int32 [M], rising: the piece of each.

    Returns:
        The tokens that are left, and the piece of each.
    """
    count = tf.reduce_max(tf.concat([pieces, [-1]], axis=0)) + 1

    def turn(tokens, pieces, found):
        best = tf.math.unsorted_segment_min(found, pieces[:-1], count)
        chosen = (found != NEVER) & (found == tf.gather(best, pieces[:-1]))
        # Of equal tokens in a row every other pair is merged, from the left.
        begins = chosen & ~tf.concat([[False], chosen[:-1]], axis=0)
        run = tf.maximum(tf.cumsum(tf.cast(begins, tf.int32)) - 1, 0)
        places = tf.range(tf.shape(chosen)[0])
        first = tf.gather(tf.boolean_mask(places, begins), run)
        taken = chosen & ((places - first) % 2 == 0)
        tokens = tf.concat([tf.where(taken, found, tokens[:-1]), tokens[-1:]], axis=0)
        left = tf.concat([[True], ~taken], axis=0)
        tokens, pieces = tf.boolean_mask(tokens, left), tf.boolean_mask(pieces, left)
        return tokens, pieces, merges_of_pairs(tokens, pieces)

    flat = tf.TensorShape([None])
    tokens, pieces, _ = tf.while_loop(
        lambda tokens, pieces, found: tf.reduce_any(found != NEVER),
        turn,
        (tokens, pieces, merges_of_pairs(tokens, pieces)),
        shape_invariants=(flat, flat, flat),
    )
    return tokens, pieces


def merges_of_pairs(tokens, pieces) -> tf.Tensor:
    """What each token and the next become, int32 [M - 1]: NEVER where they stay apart."""
    keys, results = merges()
    pairs = tf.cast(tokens[:-1], tf.int64) * SHIFT + tf.cast(tokens[1:], tf.int64)
    places = tf.minimum(tf.searchsorted(keys, pairs), len(keys) - 1)
    known = (tf.gather(keys, places) == pairs) & (pieces[:-1] == pieces[1:])
    return tf.where(known, tf.gather(results, places), NEVER)
