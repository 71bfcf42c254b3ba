"""Files of the Hub, and the reason if one is missing.

hub_file      a file of a repository, from the cache or fetched, and the commit that it is of
hub_errors    errors inside that the Hub led to become one sentence
hub_problem   the sentence: what a failed download means, and the way out
hub_answer    the same, where it was the Hub that refused
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
    """Something could not be downloaded from the Hub; the message says what, why and what to do."""


def hub_file(repository: str, file: str, revision: str | None = None) -> tuple[Path, str]:
    """A file of a model's repository, which is fetched where the cache does not have it.

    Args:
        repository (`str`): its id on the Hub.
        file (`str`): its path in the repository.
        revision (`str`, *optional*): a commit, branch or tag; the newest commit by default.

    Returns:
        `(Path, str)`: the file in the cache, and the commit that it is of.

    Raises:
        HubError: it is gone, may not be read, cannot be fetched or broke off.
    """
    try:
        path = Path(hf_hub_download(repository, file, revision=revision))
    except Exception as error:  # of the HTTP client that the installed huggingface_hub uses, where a connection breaks
        reason = hub_problem(error) or str(error).strip().split("\n")[0] or type(error).__name__
        raise HubError(f"Cannot fetch {file} of {repository}: {reason}") from error
    return path, path.relative_to(_snapshots(path)).parts[0]


@contextmanager
def hub_errors(prefix: str = "", *, connection: bool = False) -> Iterator[None]:
    """What is loaded inside may come from the Hub.

    Args:
        prefix (`str`): of the message.
        connection (`bool`): everything inside goes to the Hub, so that what is no `ValueError` and no `OSError` is an
            error of the connection, too: of the HTTP client that the installed huggingface_hub uses.

    Raises:
        HubError: instead of an error that the Hub led to, whatever its type; others pass as they are.
    """
    try:
        yield
    except HubError:
        raise
    except Exception as error:
        reason = hub_problem(error)
        if reason is None and connection and not isinstance(error, (ValueError, OSError)):
            reason = f"{str(error).strip() or type(error).__name__} Type the same again when the Hub can be reached."
        if reason is None:
            raise
        raise HubError(prefix + reason) from error


def hub_problem(error: BaseException) -> str | None:
    """Why the Hub did not give something, and the way out.

    Args:
        error (`BaseException`): of huggingface_hub, or one of transformers that it led to.

    Returns:
        `str` or `None`: a sentence or two; `None` where the Hub has no part in the error.
    """
    causes = list(_causes(error))
    if (answer := hub_answer(error)) is not None:
        return answer
    if any(isinstance(cause, OfflineModeIsEnabled) for cause in causes):
        return "it is not in the cache, and HF_HUB_OFFLINE forbids the download. Unset it once."
    if any(isinstance(cause, LocalEntryNotFoundError) for cause in causes):
        return "it is not in the cache, and the Hub cannot be reached. Type the same again where there is a network."
    if (broken := next((cause for cause in causes if isinstance(cause, httpx.TransportError)), None)) is not None:
        reason = str(broken).split("\n")[0] or type(broken).__name__
        return f"the download broke off ({reason}). Type the same again."
    return None


def hub_answer(error: BaseException) -> str | None:
    """What the Hub's own answer means, and the way out; `None` where it gave none that led to the error."""
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


__all__ = ["HubError", "hub_answer", "hub_errors", "hub_file", "hub_problem"]
