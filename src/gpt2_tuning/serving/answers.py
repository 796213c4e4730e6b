"""Answers in the form of OpenAI's API: whole ones, and the parts of a stream."""

import base64
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpt2_tuning.data.tokenizer import Tokenizer
from gpt2_tuning.inference.scoring import TokenScore
from gpt2_tuning.serving.body import finite
from gpt2_tuning.serving.rows import Piece
from gpt2_tuning.serving.wanted import Wanted

FINISH = {"end_of_text": "stop", "stop": "stop", "length": "length"}


class Telling:
    """Tells the answers to one request.

    Args:
        wanted: the request.
        tokenizer: of the model.
        prompt_scores: of each prompt's tokens but the first, where these are told and scored.
    """

    def __init__(
        self,
        wanted: Wanted,
        tokenizer: Tokenizer,
        prompt_scores: Sequence[Sequence[TokenScore]] = (),
    ):
        self._wanted, self._tokenizer, self._prompt_scores = wanted, tokenizer, prompt_scores
        kind, prefix = (
            ("chat.completion", "chatcmpl") if wanted.chat else ("text_completion", "cmpl")
        )
        self._kind = kind
        self._head = {
            "id": f"{prefix}-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": wanted.model.name,
        }
        stripped = wanted.chat and wanted.model.template is not None
        self._edges = [Edges() if stripped else None for _ in wanted.rows]
        self._offsets = [0 for _ in wanted.rows]
        self._begun = [False for _ in wanted.rows]

    def whole(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        """The body of the answer, from the last piece of each row."""
        choices = [self._choice(index, piece, whole=True) for index, piece in enumerate(pieces)]
        made = sum(piece.tokens for piece in pieces)
        return {**self._head, "object": self._kind, "choices": choices, "usage": self._usage(made)}

    def part(self, index: int, piece: Piece) -> dict[str, Any]:
        """A part of a stream that a piece of a row's becomes."""
        kind = f"{self._kind}.chunk" if self._wanted.chat else self._kind
        choices = [self._choice(index, piece, whole=False)]
        return {**self._head, "object": kind, "choices": choices, **self._no_usage()}

    def counted(self, made: int) -> dict[str, Any]:
        """The last part of a stream that is to end with the counts of tokens."""
        kind = f"{self._kind}.chunk" if self._wanted.chat else self._kind
        return {**self._head, "object": kind, "choices": [], "usage": self._usage(made)}

    def _no_usage(self) -> dict[str, Any]:
        return {"usage": None} if self._wanted.usage else {}

    def _usage(self, made: int) -> dict[str, int]:
        prompt = sum(map(len, self._wanted.prompts))
        return {
            "prompt_tokens": prompt,
            "completion_tokens": made,
            "total_tokens": prompt + made,
        }

    def _choice(self, index: int, piece: Piece, whole: bool) -> dict[str, Any]:
        text, edges, wanted = piece.text, self._edges[index], self._wanted
        if edges is not None:
            text = edges.within(text, piece.ended is not None)
        first, self._begun[index] = not self._begun[index], True
        choice: dict[str, Any] = {
            "index": index,
            "finish_reason": FINISH[piece.ended] if piece.ended else None,
            "logprobs": None,
        }
        if wanted.chat:
            said = {"content": text}
            role = {"role": "assistant"} if first else {}
            choice["message" if whole else "delta"] = {**role, **said}
            if wanted.scored is not None:
                choice["logprobs"] = {"content": self._of_chat(piece.scores), "refusal": None}
            return choice
        scores, prompt = list(piece.scores), index // wanted.answers_each
        before: list[TokenScore | None] = []
        if wanted.echo is not None and first:
            text = wanted.echo[prompt] + text
            before = [None, *self._prompt_scores[prompt]] if self._prompt_scores else []
        choice["text"] = text
        if wanted.scored is not None:
            choice["logprobs"] = self._of_completion(index, [*before, *scores])
        return choice

    def _of_chat(self, scores: Sequence[TokenScore]) -> list[dict[str, Any]]:
        """The scores of tokens as a conversation's answer has them."""

        def entry(token: int, score: float) -> dict[str, Any]:
            text = self._tokenizer.continued([token])
            own = list(self._tokenizer.bytes_of(token))
            return {"token": text, "logprob": finite(score), "bytes": own}

        return [
            {
                **entry(score.token, score.log_probability),
                "top_logprobs": [entry(*likely) for likely in score.likeliest],
            }
            for score in scores
        ]

    def _of_completion(self, index: int, scores: Sequence[TokenScore | None]) -> dict[str, Any]:
        """The scores of tokens as a completion has them; None stands for a prompt's first token."""
        first = self._wanted.prompts[index // self._wanted.answers_each][0]
        # Those after the first keep the blank space they begin with, which tells some apart.
        text_of = self._tokenizer.continued
        texts = [
            text_of([score.token]) if score else self._tokenizer.decode([first]) for score in scores
        ]
        offsets = []
        for text in texts:
            offsets.append(self._offsets[index])
            self._offsets[index] += len(text)
        return {
            "tokens": texts,
            "token_logprobs": [finite(one.log_probability) if one else None for one in scores],
            "top_logprobs": [
                {text_of([token]): finite(value) for token, value in one.likeliest} if one else None
                for one in scores
            ],
            "text_offset": offsets,
        }


class Edges:
    """Leaves out the blank space around an answer that comes in pieces."""

    def __init__(self) -> None:
        self._begun, self._held = False, ""

    def within(self, text: str, last: bool) -> str:
        """What of the next piece can be told; blank space only once something comes after it."""
        text = self._held + text
        if not self._begun:
            text = text.lstrip()
        kept = text.rstrip()
        self._held = "" if last else text[len(kept) :]
        self._begun = self._begun or bool(kept)
        return kept


def embeddings(
    model: str, vectors: Sequence[np.ndarray], encoding: str, tokens: int
) -> dict[str, Any]:
    """The body of an answer to /v1/embeddings."""

    def encoded(vector: np.ndarray) -> Any:
        if encoding == "base64":
            return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
        return vector.tolist()

    return {
        "object": "list",
        "model": model,
        "data": [
            {"object": "embedding", "index": index, "embedding": encoded(vector)}
            for index, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def models(names: Sequence[str], created: int) -> dict[str, Any]:
    """The body of an answer to /v1/models."""
    return {"object": "list", "data": [model(name, created) for name in names]}


def model(name: str, created: int) -> Mapping[str, Any]:
    """One of them."""
    return {"id": name, "object": "model", "created": created, "owned_by": "gpt2-tuning"}
