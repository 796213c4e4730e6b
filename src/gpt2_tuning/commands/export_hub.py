"""Uploads to the Hugging Face Hub, or whatever HF_ENDPOINT names, by its own client."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gpt2_tuning.errors import UserError

if TYPE_CHECKING:
    from huggingface_hub import HfApi


class Login(NamedTuple):
    """Who uploads what."""

    api: "HfApi"
    name: str
    """Of the repository."""


def checked_login(name: str) -> Login:
    """Finds out before any work whether an upload may succeed.

    Raises:
        UserError: the name is none, there is no token, or the Hub does not take it.
    """
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UserError(f"--push {name} is no name of a repository: {error}") from error
    if get_token() is None:
        raise UserError("--push needs a token of the Hub: `hf auth login`, or set HF_TOKEN")
    api = HfApi(library_name="gpt2-tuning")
    try:
        api.whoami()
    except Exception as error:  # the Hub's client raises errors of several libraries
        raise UserError(f"--push: {api.endpoint} does not take the token: {said(error)}") from error
    return Login(api, name)


def push(login: Login, directory: Path, private: bool) -> str:
    """Uploads a directory as one commit, and returns the address of the repository.

    Raises:
        UserError: it cannot be uploaded; what was exported stays.
    """
    try:
        made = login.api.create_repo(login.name, private=private or None, exist_ok=True)
        if private and not login.api.model_info(made.repo_id).private:
            raise UserError(f"--private: {made.repo_id} is there already, and everybody sees it")
        login.api.upload_folder(
            repo_id=made.repo_id, folder_path=directory, commit_message="Export of gpt2-tuning"
        )
    except UserError:
        raise
    except Exception as error:  # as above
        raise UserError(
            f"--push {login.name}: {said(error)}; {directory} is whole, and "
            f"`hf upload {login.name} {directory}` uploads it"
        ) from error
    return str(made)


def said(error: Exception) -> str:
    """An error in a line."""
    return " ".join(str(error).split())[:300] or type(error).__name__
