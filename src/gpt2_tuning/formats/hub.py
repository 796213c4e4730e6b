"""Where pretrained weights are: a directory here, the Hub's cache, or the Hub."""

from pathlib import Path

from gpt2_tuning.data.file_tokenizer import (
    SENTENCEPIECE_FILE,
    TEMPLATE_FILE,
    TOKENIZER_CONFIG_FILE,
    TOKENIZER_FILE,
)
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.known import DEFAULT, FAMILIES, hub_name
from gpt2_tuning.formats.directory import CONFIG_FILE, INDEX_FILE, WEIGHTS_FILE

DESCRIPTION = (
    *(CONFIG_FILE, TOKENIZER_FILE, TOKENIZER_CONFIG_FILE, TEMPLATE_FILE),
    SENTENCEPIECE_FILE,  # which is not read, but what to do about it is said
)
"""What preparation needs of a base."""


def find_checkpoint(pretrained: str, flag: str = "--pretrained") -> Path:
    """The directory of a checkpoint: a local one as it is, a size or Hub name through the cache.

    Raises:
        UserError: neither is there; the message names the file, the cache and what else works, by
            the flag that names the checkpoint.
    """
    patterns = [*DESCRIPTION, WEIGHTS_FILE, INDEX_FILE, "model-*.safetensors"]
    return find(pretrained, patterns, instead_of_weights(flag))


def find_description(base: str, weights_follow: bool = False) -> Path:
    """As `find_checkpoint`, without the weights: its config.json and its tokenizer's files.

    Where its weights will be asked for too (`weights_follow`), messages are as of these.
    """
    if weights_follow:
        return find(base, list(DESCRIPTION), instead_of_weights("--pretrained"))
    advice = f"use --base DIR (with {', '.join(DESCRIPTION[:3])})"
    return find(base, list(DESCRIPTION), advice, CONFIG_FILE)


def instead_of_weights(flag: str) -> str:
    """What works where weights cannot be had that a flag names."""
    advice = f"use {flag} DIR (config.json and {WEIGHTS_FILE})"
    random = " or --pretrained none (random weights)"
    return advice + (random if flag == "--pretrained" else "")


def find(pretrained: str, patterns: list[str], advice: str, wanted: str = WEIGHTS_FILE) -> Path:
    """The directory with the files of a checkpoint that fit these patterns.

    Args:
        pretrained: a directory, a size or a Hub name.
        patterns: of the files.
        advice: what else works.
        wanted: the file that is said to be missing.
    """
    if Path(pretrained).is_dir():
        return Path(pretrained)
    if pretrained in FAMILIES[DEFAULT].sizes and not hub_name(pretrained):
        raise UserError(f"there are no published weights of size {pretrained}: {advice}")
    return download(public_name(pretrained), patterns, advice, wanted)


def public_name(pretrained: str) -> str:
    """The Hub's name of a size or of an old name such as "gpt2"; a directory is its own name."""
    if Path(pretrained).is_dir():
        return pretrained
    published = FAMILIES[DEFAULT].hub_names.values()
    old_names = {name.rpartition("/")[2]: name for name in published}
    return hub_name(pretrained) or old_names.get(pretrained, pretrained)


def download(name: str, patterns: list[str], advice: str, wanted: str) -> Path:
    """The Hub's copy of such files, from the local cache where they are already there."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import GatedRepoError

    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except GatedRepoError as error:
        raise UserError(
            f"{name!r} is given to those only who accepted its terms: accept them on its page "
            "of the Hub, then `hf auth login`, or set HF_TOKEN to a token of that account"
        ) from error
    except Exception as error:  # the Hub's client raises errors of several libraries
        raise UserError(
            f"cannot get {wanted} of {name!r} ({type(error).__name__}): it is not a "
            f"directory here, not in the cache {constants.HF_HUB_CACHE}, and could not be "
            f"downloaded; {advice}"
        ) from error
