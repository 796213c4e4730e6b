"""Which weights are tuned where not all of them are, without LoRA."""

from gpt2_tuning.errors import UserError
from gpt2_tuning.models.pretrained import PretrainedModel

ENDINGS = (".bias", ".beta")
"""Of the paths of what is only added: biases of dense layers and of normalisations."""
LAST = "last:"


def trained_names(model: PretrainedModel, part: str) -> set[str]:
    """The names in files of the base's weights that belong to a part of it.

    Args:
        model: of the base.
        part: "head" is none of them; "biases" all biases (BitFit, Ben-Zaken et al. 2021,
            https://arxiv.org/abs/2106.10199); "last:N" the last N blocks and the normalisation
            after them.

    Raises:
        UserError: there is no such part, or the head of a language model is asked for, which is
            its token embedding.
    """
    table = {stored.name: stored.path for stored in model.family.weights(model.transformer.config)}
    if part == "head":
        if not model.head_weights():
            raise UserError("this model has no head of its own that could be tuned alone")
        return set()
    if part == "biases":
        return {name for name, path in table.items() if path.endswith(ENDINGS)}
    count = part.removeprefix(LAST)
    layers = model.transformer.config.layers
    if not part.startswith(LAST) or not count.isdigit() or not 1 <= int(count) <= layers:
        raise UserError(
            f"{part!r} is no part of this model: head, biases, or last:N for the last N of its "
            f"{layers} blocks"
        )
    tops = tuple(f"blocks.{block}." for block in range(layers - int(count), layers))
    return {name for name, path in table.items() if path.startswith((*tops, "norm."))}
