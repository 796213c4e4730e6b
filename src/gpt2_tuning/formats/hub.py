"""Where pretrained weights are: a directory here, the Hub's cache, or the Hub."""

from pathlib import Path

from gpt2_tuning.errors import UserError
from gpt2_tuning.families.known import DEFAULT, FAMILIES, hub_name
from gpt2_tuning.formats.directory import CONFIG_FILE, INDEX_FILE, WEIGHTS_FILE


def find_checkpoint(pretrained: str) -> Path:
    """The directory of a checkpoint: a local one as it is, a size or Hub name through the cache.

    Raises:
        UserError: neither is there; the message names the file, the cache and what else works.
    """
    if Path(pretrained).is_dir():
        return Path(pretrained)
    if pretrained in FAMILIES[DEFAULT].sizes and not hub_name(pretrained):
        raise UserError(
            f"there are no published weights of size {pretrained}: "
            f"use --pretrained none (random weights) or --pretrained DIR"
        )
    return download(public_name(pretrained))


def public_name(pretrained: str) -> str:
    """The Hub's name of a size or of an old name such as "gpt2"; a directory is its own name."""
    if Path(pretrained).is_dir():
        return pretrained
    published = FAMILIES[DEFAULT].hub_names.values()
    old_names = {name.rpartition("/")[2]: name for name in published}
    return hub_name(pretrained) or old_names.get(pretrained, pretrained)


def download(name: str) -> Path:
    """The Hub's copy of a checkpoint, from the local cache where it is already there."""
    from huggingface_hub import constants, snapshot_download

    try:
        return Path(
            snapshot_download(
                name,
                allow_patterns=[CONFIG_FILE, WEIGHTS_FILE, INDEX_FILE, "model-*.safetensors"],
            )
        )
    except Exception as error:  # the Hub's client raises errors of several libraries
        raise UserError(
            f"cannot get {WEIGHTS_FILE} of {name!r} ({type(error).__name__}): it is not a "
            f"directory here, not in the cache {constants.HF_HUB_CACHE}, and could not be "
            f"downloaded; use --pretrained DIR (config.json and {WEIGHTS_FILE}) or "
            "--pretrained none (random weights)"
        ) from error
