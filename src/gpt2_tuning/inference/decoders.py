"""The decoder of a model, of the kind that this process's device needs, and kept with the model."""

import weakref
from collections.abc import Sequence

from gpt2_tuning.inference.compiled_decoding import CompiledDecoder
from gpt2_tuning.inference.decoding import Decoder
from gpt2_tuning.models.device_choices import device_choices
from gpt2_tuning.models.language_model import LanguageModel

_DECODERS: weakref.WeakKeyDictionary[LanguageModel, dict[tuple, Decoder]] = (
    weakref.WeakKeyDictionary()
)


def decoder_of(
    model: LanguageModel, vocabulary: int, ends: Sequence[int], by_row: bool = False
) -> Decoder:
    """The model's decoder, made at the first use and kept as long as the model.

    A model has others for when its updates are merged, which compute none, and others again once
    adapters came or went.

    Args:
        model: built or not.
        vocabulary: how many ids may be chosen, from 0 on; a model may have more.
        ends: the ids that end a row.
        by_row: whether each row has adapters of its own.
    """
    decoders = _DECODERS.setdefault(model, {})
    ids = min(vocabulary, model.config.decoder.vocabulary)
    merged = bool(model.gate and model.gate.merged)
    revision = model.gate.revision if model.gate else 0
    kind = CompiledDecoder if device_choices().whole else Decoder
    key = (ids, tuple(ends), merged, by_row, kind, revision)
    if key not in decoders:
        for old in [old for old in decoders if old[-1] != revision]:
            del decoders[old]
        decoders[key] = kind(model.built_now(), ids, ends, by_row)
    return decoders[key]
