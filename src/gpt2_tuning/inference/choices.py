"""The numbers by which a row's next tokens are chosen."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Choices:
    """What a Generation is made of, beside its texts and a sampler of one's own."""

    temperature: float = 0.0
    """0 is greedy; below 1 the likely tokens become likelier, above 1 less so."""
    top_k: int = 0
    """How many of the likeliest tokens are drawn from; 0 is all of them."""
    top_p: float = 1.0
    """The tokens drawn from are the fewest whose probabilities reach this."""
    min_p: float = 0.0
    """How likely a token must be to be drawn, as a share of the likeliest one's probability
    (Nguyen et al. 2024, https://arxiv.org/abs/2407.01082)."""
    repetition_penalty: float = 1.0
    """Divides the scores of tokens that the prompt or the new text has, and multiplies them where
    they are negative (Keskar et al. 2019, https://arxiv.org/abs/1909.05858)."""
    presence_penalty: float = 0.0
    """Taken from the scores of the tokens that the new text has, as in OpenAI's API."""
    frequency_penalty: float = 0.0
    """Taken from them as often as the new text has the token, as in OpenAI's API."""
    no_repeat_ngram: int = 0
    """No run of so many tokens comes twice in the prompt and the new text; 0 allows all."""
    seed: int = 0
    """Any integer of 64 bits. The same seed draws the same tokens."""
    max_new_tokens: int = 64
    """Together with the prompt at most the model's positions (1,024)."""

    @property
    def has_penalties(self) -> bool:
        """Whether the tokens that are there already change the scores of those that may follow."""
        names = ("repetition_penalty", "presence_penalty", "frequency_penalty", "no_repeat_ngram")
        return any(getattr(self, name) != getattr(Choices, name) for name in names)
