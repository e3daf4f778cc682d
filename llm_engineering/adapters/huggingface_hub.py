"""The Hugging Face Hub: uploads a folder as one commit of a private dataset repository."""

from pathlib import Path

from llm_engineering.domain.errors import DatasetError, UsageError


def push_folder(folder: Path, repository: str, *, token: str | None) -> str:
    """Upload every file of the folder, what the repository has besides is removed; returns the address of the commit.

    The repository is made, private, if it is not there. An unchanged folder makes no commit. Raises :class:`UsageError`
    without a token, :class:`DatasetError` if the Hub refuses or cannot be reached.
    """
    if not token:
        raise UsageError(
            f"hub_repository is {repository}, and there is no token for the Hugging Face Hub",
            hint="Set HF_TOKEN to one that may write there, or take hub_repository out of the configuration.",
        )
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    api = HfApi(token=token)
    try:
        api.create_repo(repository, repo_type="dataset", private=True, exist_ok=True)
        commit = api.upload_folder(
            folder_path=folder,
            repo_id=repository,
            repo_type="dataset",
            commit_message=f"Version {folder.name}",
            delete_patterns="*",
        )
    except HFValidationError as error:
        raise UsageError(
            f"hub_repository {repository!r} is no name of a repository: {error}", hint="Write owner/name."
        ) from error
    except (HfHubHTTPError, OfflineModeIsEnabled, httpx.HTTPError, OSError) as error:
        raise DatasetError(
            f"The dataset could not be pushed to {repository}: {_said(error)}",
            hint=f"It is whole in {folder}. Check HF_TOKEN and the connection, and run it again.",
        ) from error
    except ValueError as error:  # the card's front matter, or an answer that is no JSON
        raise DatasetError(
            f"The Hub does not take {folder} for {repository}: {_said(error)}",
            hint="It is whole there. Change what it names (the licence is in terms of the configuration), and run it again.",
        ) from error
    return str(commit.commit_url)


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
