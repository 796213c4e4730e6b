"""Which tokenizer a model works with."""

from pathlib import Path
from typing import Any

from gpt2_tuning.data.tokenizer import GPT2Tokenizer, Tokenizer
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.family import Family
from gpt2_tuning.formats.base_files import tokenizer_in


class WithTokenizer:
    """Gives a model the tokenizer of its base."""

    family: Family
    tokenizer_dir: Path | None = None
    """Where the base's lies; it is read when it is asked for, as not all have one."""
    chat_template: str | None = None
    """The template of conversations that is written beside it; None is the base's own."""
    _tokenizer: Tokenizer | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        """Between text and token ids: the one that was set, or the base's own.

        Raises:
            UserError: none was set and the base has none, or none that can be used.
        """
        if self._tokenizer is None:
            self._tokenizer = self._own_tokenizer()
        return self._tokenizer

    @tokenizer.setter
    def tokenizer(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    @property
    def pad_token_id(self) -> int | None:
        """Its tokenizer's; None where it has no tokenizer that can be used."""
        try:
            return self.tokenizer.pad
        except UserError:
            return None

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "tokenizer":
            # Keras would read what there is before it sets another, and there may be none.
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def _own_tokenizer(self) -> Tokenizer:
        if self.tokenizer_dir is not None:
            return tokenizer_in(self.tokenizer_dir, self.family)
        if self.family.has_gpt2_tokenizer:
            return GPT2Tokenizer()
        raise UserError(
            f"this {self.family.name} has no tokenizer: set `model.tokenizer`, such as "
            "read_tokenizer(DIR) or GPT2Tokenizer()"
        )
