"""Download files from the Hub, with clear errors.

hub_file      a file of a repository, cached or downloaded, and its commit
hub_errors    a context manager that turns errors of the Hub into a [`HubError`]
hub_problem   a sentence for a failed download, with the remedy
hub_answer    a sentence for a refusal by the Hub, with the remedy
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
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
from huggingface_hub.utils import httpx  # the HTTP client that the installed release uses

HUB = "https://huggingface.co"


class HubError(OSError):
    """A download from the Hub failed; the message has the reason and the remedy."""


def hub_file(repository: str, file: str, revision: str | None = None) -> tuple[Path, str]:
    """A file of a model's repository, from the cache or downloaded.

    Args:
        repository (`str`): the id of the repository.
        file (`str`): the path in the repository.
        revision (`str`, *optional*): a commit, branch or tag; by default, the newest commit.

    Returns:
        `(Path, str)`: the file in the cache, and its commit.

    Raises:
        HubError: the file does not exist, access is denied, or the download failed.
    """
    try:
        path = Path(hf_hub_download(repository, file, revision=revision))
    except Exception as error:  # includes errors of the HTTP client of the installed huggingface_hub
        reason = hub_problem(error) or str(error).strip().split("\n")[0] or type(error).__name__
        raise HubError(f"Cannot fetch {file} of {repository}: {reason}") from error
    return path, path.relative_to(_snapshots(path)).parts[0]


@contextmanager
def hub_errors(prefix: str = "", *, connection: bool = False) -> Iterator[None]:
    """A context manager for code that loads from the Hub.

    Args:
        prefix (`str`): start of the message.
        connection (`bool`): all of the code communicates with the Hub, so any error but `ValueError` and `OSError` is
            one of the connection, from the HTTP client of the installed huggingface_hub.

    Raises:
        HubError: replaces any error that the Hub caused; other errors are not changed.
    """
    try:
        yield
    except HubError:
        raise
    except Exception as error:
        reason = hub_problem(error)
        if reason is None and connection and not isinstance(error, (ValueError, OSError)):
            reason = f"{str(error).strip() or type(error).__name__} Repeat the command when the Hub can be reached."
        if reason is None:
            raise
        raise HubError(prefix + reason) from error


def hub_problem(error: BaseException) -> str | None:
    """The reason why a download from the Hub failed, and the remedy.

    Args:
        error (`BaseException`): an error of huggingface_hub, or of transformers with such a cause.

    Returns:
        `str` or `None`: a sentence or two; `None` if the Hub did not cause the error.
    """
    causes = list(_causes(error))
    if (answer := hub_answer(error)) is not None:
        return answer
    if any(isinstance(cause, OfflineModeIsEnabled) for cause in causes):
        return "it is not in the cache, and HF_HUB_OFFLINE forbids the download. Unset it for one run."
    if any(isinstance(cause, LocalEntryNotFoundError) for cause in causes):
        return "it is not in the cache, and the Hub cannot be reached. Repeat the command with a network connection."
    if (broken := next((cause for cause in causes if isinstance(cause, httpx.TransportError)), None)) is not None:
        reason = str(broken).split("\n")[0] or type(broken).__name__
        return f"the download was interrupted ({reason}). Repeat the command."
    return None


def hub_answer(error: BaseException) -> str | None:
    """The meaning of the Hub's answer, and the remedy; `None` if no answer of the Hub caused the error."""
    found = next((cause for cause in _causes(error) if isinstance(cause, HfHubHTTPError)), None)
    return None if found is None else _of_answer(found)


def _of_answer(error: HfHubHTTPError) -> str:
    status = error.response.status_code
    match = re.match(r"(?:/api/models)?/([^/]+/[^/]+)", error.response.url.path)
    page = f"{HUB}/{match[1]}" if match else HUB
    if isinstance(error, GatedRepoError):
        return f"its author asks you to accept conditions: do so on {page}, then type `hf auth login`."
    if isinstance(error, RepositoryNotFoundError):
        return ("the Hub has no such repository any more, or it is private. Check the name; with an account that may "
                "read it, type `hf auth login`.")  # fmt: skip
    if isinstance(error, RevisionNotFoundError):
        return f"the repository no longer has this revision. See {page}/commits/main."
    if isinstance(error, RemoteEntryNotFoundError):
        return f"the repository has no such file any more. See {page}/tree/main."
    if status == 429:
        return ("the Hub has had too many requests from here (429). Repeat the command in a few minutes; after "
                "`hf auth login`, more requests are allowed.")  # fmt: skip
    if status in (401, 403):
        return f"the Hub refuses the token that was sent ({status}). Type `hf auth login`, or unset HF_TOKEN."
    return f"the Hub answered with the status {status}. Repeat the command later."


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and its chain of causes."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _snapshots(path: Path) -> Path:
    """The folder of a repository in the cache that has a subfolder for each commit."""
    return next(folder for folder in path.parents if folder.name == "snapshots")


__all__ = ["HubError", "hub_answer", "hub_errors", "hub_file", "hub_problem"]
