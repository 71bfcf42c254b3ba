"""Files of the Hub, and why one is not there.

hub_file      a file of a repository, from the cache or fetched, and the commit that it is of
hub_problem   what a failed download means and the way out, in one sentence
"""

from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

HUB = "https://huggingface.co"


def hub_file(repository: str, file: str, revision: str | None = None) -> tuple[Path, str]:
    """A file of a model's repository, which is fetched where the cache does not have it.

    Args:
        repository (`str`): its id on the Hub.
        file (`str`): its path in the repository.
        revision (`str`, *optional*): a commit, branch or tag; the newest commit by default.

    Returns:
        `(Path, str)`: the file in the cache, and the commit that it is of.

    Raises:
        OSError: it is gone, may not be read, cannot be fetched or broke off; the message says which.
    """
    try:
        path = Path(hf_hub_download(repository, file, revision=revision))
    except Exception as error:  # of the HTTP client that the installed huggingface_hub uses, where a connection breaks
        raise OSError(f"Cannot fetch {file} of {repository}: {hub_problem(error, repository)}") from error
    return path, path.relative_to(_snapshots(path)).parts[0]


def hub_problem(error: BaseException, repository: str) -> str:
    """Why the Hub did not give something, and the way out.

    Args:
        error (`BaseException`): of huggingface_hub, or one of transformers that it led to.
        repository (`str`): whose files were asked for.

    Returns:
        `str`: a sentence or two; the first line of the error where the Hub has no part in it.
    """
    causes = list(_causes(error))
    for kind, sentence in (
        (GatedRepoError, f"its author asks for consent: give it on {HUB}/{repository}, then type `hf auth login`."),
        (RepositoryNotFoundError, "the Hub has no such repository any more, or it is private. Check the name; with an "
                                  "account that may read it, type `hf auth login`."),
        (RevisionNotFoundError, f"the repository no longer has this revision. See {HUB}/{repository}/commits/main."),
        (RemoteEntryNotFoundError, f"the repository has no such file any more. See {HUB}/{repository}/tree/main."),
        (OfflineModeIsEnabled, "it is not in the cache, and HF_HUB_OFFLINE forbids to fetch it. Unset it once."),
    ):  # fmt: skip
        if any(isinstance(cause, kind) for cause in causes):
            return sentence
    answers = [cause.response for cause in causes if isinstance(cause, HfHubHTTPError)]
    if answers:
        return _of_status(answers[0].status_code)
    if any(isinstance(cause, (LocalEntryNotFoundError, ConnectionError)) for cause in causes):
        return "it is not in the cache, and the Hub cannot be reached. Type the same again where there is a network."
    return str(error).strip().split("\n")[0] or type(error).__name__


def _of_status(status: int) -> str:
    if status == 429:
        return ("the Hub has had too many requests from here (429). Wait some minutes and type the same again; after "
                "`hf auth login` it allows more.")  # fmt: skip
    if status in (401, 403):
        return f"the Hub refuses the token that was sent ({status}). Type `hf auth login`, or unset HF_TOKEN."
    return f"the Hub answered with the status {status}. Type the same again later."


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _snapshots(path: Path) -> Path:
    """The folder of the cache in which each commit of a repository has a folder of files."""
    return next(folder for folder in path.parents if folder.name == "snapshots")


__all__ = ["hub_file", "hub_problem"]
