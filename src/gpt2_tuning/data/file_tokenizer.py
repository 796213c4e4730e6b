"""Any tokenizer of a tokenizer.json, beside the tokenizer_config.json that names its own tokens.

Code alone puts the tokens that begin and end a text; where a text holds their letters, they are
letters. What splits, normalises or marks a word is the file's.
"""

import functools
import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from gpt2_tuning.data.tokenizer import (
    END_OF_TEXT_TOKEN,
    GPT2Tokenizer,
    Span,
    Tokenizer,
    bytes_of_symbols,
    check_encodable,
    read_vocabulary,
)
from gpt2_tuning.errors import UserError
from gpt2_tuning.small_files import check_regular, read_json

TOKENIZER_FILE = "tokenizer.json"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
TEMPLATE_FILE = "chat_template.jinja"
"""The base's template of conversations, beside them."""
SENTENCEPIECE_FILE = "tokenizer.model"
MOST_BYTES = 2**26
"""Of a tokenizer.json; one of 256,000 ids has about half of it."""


class FileTokenizer:
    """The tokenizer of a directory; `read_tokenizer` gives GPT-2's own where that is what it is.

    Raises:
        UserError: a file is missing or damaged, or names no token that ends a text.
    """

    by_words = False
    cuts: re.Pattern[str] | None = None

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._tokenizer = parsed(directory / TOKENIZER_FILE)
        # Letters of a special token in a text are letters, not the token.
        self._tokenizer.encode_special_tokens = True
        config = read_json(directory / TOKENIZER_CONFIG_FILE, "a tokenizer")
        self.vocabulary = 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values())
        self.end_text = self._named(config, "eos_token") or ""
        if not self.end_text:
            raise UserError(
                f"{directory / TOKENIZER_CONFIG_FILE} names no eos_token, the token that ends a "
                "text: name one of the vocabulary there"
            )
        self.end = self.separator = self._id_of(self.end_text)
        pad = self._named(config, "pad_token")
        self.pad = self.end if pad is None else self._id_of(pad)
        self.start = self._start(config)
        added = self._tokenizer.get_added_tokens_decoder()
        special = {token.content: i for i, token in added.items() if token.special}
        self.special_ids: Mapping[str, int] = {**special, self.end_text: self.end}
        names = ("bos_token", "eos_token", "unk_token", "pad_token")
        self.named: Mapping[str, str] = {
            name: token for name in names if (token := self._named(config, name))
        }

    def _named(self, config: Mapping[str, Any], name: str) -> str | None:
        """A token of tokenizer_config.json, which has it as a text or as an object."""
        value = config.get(name)
        text = value.get("content") if isinstance(value, Mapping) else value
        if text is None:
            return None
        if not isinstance(text, str) or self._tokenizer.token_to_id(text) is None:
            raise UserError(
                f"{self.directory / TOKENIZER_CONFIG_FILE}: {name} {str(text)[:40]!r} is not in "
                f"the vocabulary of {TOKENIZER_FILE}"
            )
        return text

    def _id_of(self, token: str) -> int:
        found = self._tokenizer.token_to_id(token)
        assert found is not None
        return found

    def _start(self, config: Mapping[str, Any]) -> int | None:
        """What comes before a text: as the config says, or what the file itself puts there."""
        named = self._named(config, "bos_token")
        wanted = config.get("add_bos_token")
        if wanted is None:
            own = self._tokenizer.encode("", add_special_tokens=True).ids
            wanted = bool(named) and own[:1] == [self._id_of(named or "")]
        return self._id_of(named) if wanted and named else None

    @functools.cached_property
    def sha256(self) -> str:
        """The checksum of tokenizer.json and of the tokens that code puts."""
        digest = hashlib.sha256((self.directory / TOKENIZER_FILE).read_bytes())
        own = (self.start, self.end, self.separator, self.pad)
        digest.update(json.dumps(own).encode())
        return digest.hexdigest()

    def encode(self, text: str) -> list[int]:
        """The token ids of one text, without a start; an empty text has none.

        Raises:
            UserError: the text holds a lone surrogate, which is no character.
        """
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of many texts, on all cores. Raises as `encode` does."""
        for text in texts:
            check_encodable(text)
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        # Some files mark the beginning of a text by a token, even of one that is empty.
        return [
            encoding.ids if text else [] for text, encoding in zip(texts, encodings, strict=True)
        ]

    def encode_with_spans(self, texts: Sequence[str]) -> list[tuple[list[int], list[Span]]]:
        """As `encode_batch`, with the characters that each token comes from."""
        for text in texts:
            check_encodable(text)
        encodings = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [
            (encoding.ids, encoding.offsets) if text else ([], [])
            for text, encoding in zip(texts, encodings, strict=True)
        ]

    def decode(self, ids: Sequence[int], skip_end_of_text: bool = False) -> str:
        """The text of token ids, with `end` shown as `end_text` or left out.

        Raises:
            ValueError: an id is not in the vocabulary.
        """
        ids = [int(token) for token in ids]
        for token in ids:
            if not 0 <= token < self.vocabulary:
                raise ValueError(f"token id {token} is outside 0..{self.vocabulary - 1}")
        if skip_end_of_text:
            ids = [token for token in ids if token != self.end]
        return self._tokenizer.decode(ids, skip_special_tokens=False)

    def continued(self, ids: Sequence[int]) -> str:
        """As `decode`, of ids that go on from others: blank space at their beginning stays."""
        before, text = self._before
        return self.decode([*before, *ids]).removeprefix(text)

    @functools.cached_property
    def _before(self) -> tuple[list[int], str]:
        """A token that others can go on from, and its text."""
        before = self.encode("a")[-1:]
        return before, self.decode(before)

    @functools.cached_property
    def single_bytes(self) -> Mapping[int, bytes]:
        """What ids of one byte each stand for, where the file falls back to bytes, as Llama's.

        An id that the file has no token for stands for no byte, and ends no run of them either.
        """
        ids = [self._tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in range(256)]
        found = {token: bytes([byte]) for byte, token in enumerate(ids) if token is not None}
        e_acute = [token for token in (ids[0xC3], ids[0xA9]) if token is not None]
        if "\u00e9" not in self.decode(e_acute):
            return {}
        tokens = self._tokenizer.get_vocab(with_added_tokens=True).values()
        return found | dict.fromkeys(set(range(self.vocabulary)).difference(tokens), b"")

    def bytes_of(self, token: int) -> bytes:
        """What one id stands for, in UTF-8, of which it may be a part of a character."""
        if token in self.single_bytes:
            return self.single_bytes[token]
        text = self.continued([token])
        if "\ufffd" not in text:
            return text.encode("utf-8")
        return bytes_of_symbols(self._tokenizer.id_to_token(token) or "")

    def save(self, directory: Path) -> None:
        """Copies both files, from which transformers loads the same tokenizer."""
        directory.mkdir(parents=True, exist_ok=True)
        for name in (TOKENIZER_FILE, TOKENIZER_CONFIG_FILE):
            shutil.copyfile(self.directory / name, directory / name)


def read_tokenizer(directory: Path) -> Tokenizer:
    """The tokenizer whose files a directory has.

    Raises:
        UserError: there is none, or it cannot be used.
    """
    if not (directory / TOKENIZER_FILE).exists():
        advice = ""
        if (directory / SENTENCEPIECE_FILE).exists():
            advice = (
                f", and {SENTENCEPIECE_FILE} is not read: "
                "`AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)` of transformers writes "
                f"{TOKENIZER_FILE} beside it"
            )
        raise UserError(f"no {TOKENIZER_FILE} in {directory}{advice}")
    if is_gpt2(directory / TOKENIZER_FILE):
        return GPT2Tokenizer()
    return FileTokenizer(directory)


def write_template(directory: Path, text: str | None, base: Path | None) -> None:
    """Writes a template of conversations, which goes with the tokenizer.

    Args:
        directory: where it goes.
        text: of the template; None takes the base's, if it has one.
        base: the directory of the base, if there is one.
    """
    if text is not None:
        (directory / TEMPLATE_FILE).write_text(text, encoding="utf-8", newline="\n")
    elif base is not None and (base / TEMPLATE_FILE).is_file():
        shutil.copyfile(base / TEMPLATE_FILE, directory / TEMPLATE_FILE)


def is_gpt2(path: Path) -> bool:
    """Whether a tokenizer.json is GPT-2's, as transformers or this library writes it."""
    tokenizer = parsed(path)
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    if len(vocabulary) != GPT2Tokenizer.vocabulary or vocabulary != read_vocabulary()[0]:
        return False
    added = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    model = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(pair.split(" ") if isinstance(pair, str) else pair) for pair in model["merges"]]
    return added <= {END_OF_TEXT_TOKEN} and merges == read_vocabulary()[1]


def parsed(path: Path) -> tokenizers.Tokenizer:
    """A tokenizer.json. Raises UserError where it cannot be read."""
    check_regular(path)
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise UserError(f"{path} is larger than {MOST_BYTES // 2**20} MiB, the most that is read")
    try:
        return tokenizers.Tokenizer.from_str(content.decode("utf-8"))
    except Exception as error:  # the library raises nothing more particular
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} is not a tokenizer that can be read: {reason}") from error
