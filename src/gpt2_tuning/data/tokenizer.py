"""Text to token ids and back: what data asks of a tokenizer, and GPT-2's.

GPT-2's is byte-level BPE, from the vocabulary in the package. Byte-level means that every text can
be written in the 256 byte symbols, so nothing is unknown.
"""

import functools
import json
import re
import shutil
from array import array
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import tokenizers
from tokenizers import AddedToken, decoders, pre_tokenizers, processors
from tokenizers.models import BPE

from gpt2_tuning.errors import UserError
from gpt2_tuning.families.gpt2 import END_OF_TEXT, TOKENIZER_IDS
from gpt2_tuning.files import sha256_of
from gpt2_tuning.paths import ASSETS

VOCABULARY_FILE = ASSETS / "vocab.bpe"
END_OF_TEXT_TOKEN = "<|endoftext|>"

TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json")
"""What `GPT2Tokenizer.save` writes."""

LETTERS, DIGITS = r"A-Za-z\u3041-\u3096\u30A1-\u30FA\u4E00-\u9FA5\uAC00-\uD7A3", "0-9"
SIGNS = r"!-&(-/:-@\[-`{-~\u3001\u3002\uFF01\uFF0C\uFF1A\uFF1B\uFF1F"
"""Some of each kind, those of which every version of Unicode says so. The apostrophe is no sign, as
a word's end may begin with it ('s)."""
CUTS = re.compile(
    rf"(?<=\S)(?=[ \n])|(?<=[{LETTERS}])(?=[{DIGITS}{SIGNS}])|(?<=[{DIGITS}])(?=[{LETTERS}{SIGNS}])"
    rf"|(?<=[{SIGNS}])(?=[{LETTERS}{DIGITS}])"
)
"""Where no token of GPT-2 crosses: it may begin with blank space but never goes on with it, and it
holds letters, digits or signs, never two of them."""

Span = tuple[int, int]
"""The positions of a token's first character and of the one after its last."""


class Tokenizer(Protocol):
    """What gives texts their token ids, and says which ids code puts between and around them.

    None of those ids comes from a text, whatever is written in it.
    """

    vocabulary: int
    """How many ids there are: 0 to vocabulary - 1."""
    start: int | None
    """Comes before a text; None where texts begin with none."""
    end: int
    """Comes after a text, and is learnt with it."""
    end_text: str
    """How `end` is shown, as a text may hold it in letters."""
    separator: int
    """Keeps the two texts of a pair apart."""
    pad: int
    """Fills rows up; masks hide it."""
    special_ids: Mapping[str, int]
    """The tokens, at least `end`, that no letters of a text become, by how they are shown."""
    named: Mapping[str, str]
    """Some of them by the names that templates have for them, such as eos_token."""
    cuts: re.Pattern[str] | None
    """Finds the places where a text may be cut in two whose ids are end to end those of the text;
    None where it may nowhere be cut."""
    by_words: bool
    """Whether no token goes on from a character into the blank space after it, so that the ids of
    words, each with the space before it, are end to end those of their text."""

    @property
    def sha256(self) -> str:
        """A checksum from which all ids follow."""

    @property
    def single_bytes(self) -> Mapping[int, bytes]:
        """The bytes of ids that stand for one or none, a run of which becomes text at once."""

    def encode(self, text: str) -> list[int]:
        """The token ids of one text; an empty text has none.

        Raises:
            UserError: the text holds a lone surrogate, which is no character.
        """

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of many texts, on all cores. Raises as `encode` does."""

    def encode_with_spans(self, texts: Sequence[str]) -> list[tuple[list[int], list[Span]]]:
        """As `encode_batch`, with the characters that each token comes from."""

    def decode(self, ids: Sequence[int], skip_end_of_text: bool = False) -> str:
        """The text of token ids, with `end` shown as `end_text` or left out.

        Raises:
            ValueError: an id is not in the vocabulary.
        """

    def continued(self, ids: Sequence[int]) -> str:
        """As `decode`, of ids that go on from others, where that makes a difference."""

    def bytes_of(self, token: int) -> bytes:
        """What one id stands for, in UTF-8, of which it may be a part of a character."""

    def save(self, directory: Path) -> None:
        """Writes the files from which transformers loads a tokenizer that gives the same ids."""


def default_tokenizer() -> Tokenizer:
    """The tokenizer wherever no base says another: GPT-2's."""
    return GPT2Tokenizer()


def begun(ids: Sequence[int], tokenizer: Tokenizer) -> Sequence[int]:
    """A text's ids after what its tokenizer begins texts with; no ids stay none."""
    return ids if tokenizer.start is None or not ids else [tokenizer.start, *ids]


def id_array(tokenizer: Tokenizer, ids: Iterable[int] = ()) -> array:
    """Ids in an array of the smallest type that holds all of a tokenizer's: uint16 or uint32."""
    return array("H" if tokenizer.vocabulary <= 1 << 16 else "I", ids)


class GPT2Tokenizer:
    """GPT-2's tokenizer, without network. Making one is cheap: all share one built vocabulary.

    `<|endoftext|>` written in a text is text and becomes several tokens; the token 50256 itself is
    only ever put in place by code.
    """

    vocabulary = TOKENIZER_IDS
    start: int | None = None
    end = separator = pad = END_OF_TEXT
    end_text = END_OF_TEXT_TOKEN
    special_ids: Mapping[str, int] = MappingProxyType({END_OF_TEXT_TOKEN: END_OF_TEXT})
    named: Mapping[str, str] = MappingProxyType(
        dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"), END_OF_TEXT_TOKEN)
    )
    cuts: re.Pattern[str] | None = CUTS
    by_words = True
    single_bytes: Mapping[int, bytes] = MappingProxyType({})

    def __init__(self) -> None:
        self._tokenizer = built_tokenizer()

    def encode(self, text: str) -> list[int]:
        """The token ids of one text; an empty text has none.

        Raises:
            UserError: the text holds a lone surrogate, which is no character.
        """
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of many texts, on all cores. Raises as `encode` does."""
        try:
            encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        except TypeError:
            for text in texts:
                check_encodable(text)
            raise
        return [encoding.ids for encoding in encodings]

    def encode_with_spans(self, texts: Sequence[str]) -> list[tuple[list[int], list[Span]]]:
        """As `encode_batch`, with the characters that each token comes from; a little slower.

        A character of several tokens is in the span of each of them.
        """
        for text in texts:
            check_encodable(text)
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [(encoding.ids, encoding.offsets) for encoding in encodings]

    def decode(self, ids: Sequence[int], skip_end_of_text: bool = False) -> str:
        """The text of token ids, with 50256 shown as `<|endoftext|>` or left out.

        Bytes that are not valid UTF-8, as half a character has, become U+FFFD.

        Raises:
            ValueError: an id is not in the vocabulary.
        """
        ids = [int(token) for token in ids]
        for token in ids:
            if not 0 <= token <= END_OF_TEXT:
                raise ValueError(f"token id {token} is outside 0..{END_OF_TEXT}")
        if skip_end_of_text:
            ids = [token for token in ids if token != END_OF_TEXT]
        return self._tokenizer.decode(ids, skip_special_tokens=False)

    @property
    def sha256(self) -> str:
        """The checksum of vocab.bpe, from which the whole vocabulary follows."""
        return vocabulary_sha256()

    def continued(self, ids: Sequence[int]) -> str:
        """As `decode`: what comes before makes no difference."""
        return self.decode(ids)

    def bytes_of(self, token: int) -> bytes:
        """What one id stands for, in UTF-8, of which it may be a part of a character."""
        return bytes_of_symbols(self._tokenizer.id_to_token(token) or "")

    def save(self, directory: Path) -> None:
        """Writes the files from which transformers loads a tokenizer that gives the same ids.

        Those are vocab.json, merges.txt, tokenizer.json and tokenizer_config.json. The last one
        sets `split_special_tokens`, so that `<|endoftext|>` in a text is text there too.
        """
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(VOCABULARY_FILE, directory / "merges.txt")
        vocabulary = json.dumps(read_vocabulary()[0], ensure_ascii=False)
        (directory / "vocab.json").write_text(vocabulary, encoding="utf-8")
        fast = tokenizers.Tokenizer.from_str(self._tokenizer.to_str())
        fast.add_special_tokens([AddedToken(END_OF_TEXT_TOKEN, normalized=True, special=True)])
        fast.save(str(directory / "tokenizer.json"))
        config = {
            "add_prefix_space": False,
            **dict.fromkeys(
                ("bos_token", "eos_token", "unk_token", "pad_token"), END_OF_TEXT_TOKEN
            ),
            "model_max_length": 1024,
            "split_special_tokens": True,
            "tokenizer_class": "GPT2Tokenizer",
        }
        text = json.dumps(config, indent=2) + "\n"
        (directory / "tokenizer_config.json").write_text(text, encoding="utf-8", newline="\n")


@functools.cache
def built_tokenizer() -> tokenizers.Tokenizer:
    """The one shared instance; building it takes about 0.2 seconds."""
    vocabulary, merges = read_vocabulary()
    tokenizer = tokenizers.Tokenizer(BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


@functools.cache
def vocabulary_sha256() -> str:
    """The checksum of the bundled vocab.bpe."""
    return sha256_of(VOCABULARY_FILE)


def read_vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Ids and merges from vocab.bpe: byte symbols, then merges in order, then `<|endoftext|>`."""
    # Not splitlines(): only the newline ends a merge.
    lines = VOCABULARY_FILE.read_text(encoding="utf-8").split("\n")
    merges = []
    for line in lines[1:]:  # the first names the file's version
        if line:
            left, right = line.split(" ")
            merges.append((left, right))
    tokens = [*byte_of_symbol(), *(left + right for left, right in merges), END_OF_TEXT_TOKEN]
    return {token: number for number, token in enumerate(tokens)}, merges


@functools.cache
def byte_of_symbol() -> dict[str, bytes]:
    """The 256 characters that stand for bytes, in the order of their ids, and each one's byte.

    Bytes that print stand for themselves and come first; the others follow, in order, as the
    characters from U+0100 on, so that no symbol is a space or a control character.
    """
    printing = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    others = [byte for byte in range(256) if byte not in printing]
    symbols = map(chr, [*printing, *range(0x100, 0x100 + len(others))])
    return {symbol: bytes([byte]) for symbol, byte in zip(symbols, printing + others, strict=True)}


def bytes_of_symbols(token: str) -> bytes:
    """The bytes of a token as byte-level BPE has it in its vocabulary."""
    known = byte_of_symbol()
    return b"".join(known[c] if c in known else c.encode("utf-8") for c in token)


def check_encodable(text: str) -> None:
    """Raises UserError when a text cannot be written as UTF-8: it holds half a surrogate pair."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"a text holds the lone surrogate U+{ord(text[error.start]):04X} at character"
            f" {error.start + 1}, which is no character: repair the text {shortened(text)}"
        ) from error


def shortened(text: str) -> str:
    """The beginning of a text as ASCII, to show which one is meant."""
    return ascii(text if len(text) <= 40 else text[:40] + "...")
