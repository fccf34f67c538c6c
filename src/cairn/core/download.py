"""Files from the network: one at a time, into a `.part` file that becomes the file once it is whole.

A download that broke off goes on where it stopped if the server can, and starts anew if not. What the bytes
should be, beyond their number, is for the caller to check.
"""

import functools
import http.client
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from cairn.core.errors import IntegrityError, StorageError, UnavailableError
from cairn.core.progress import Progress

_CHUNK_BYTES = 1 << 18
_TIMEOUT_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file behind a URL, and what to tell who cannot have it."""

    url: str
    label: str
    """What the progress is called."""
    remedy: str
    remedies: Mapping[int, str] = field(default_factory=dict)
    """For answers that need another, by status."""
    size: int | None = None
    """How long the file is, where that is known before."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent to this host alone, not to another that it refers to."""


def partial_size(target: Path) -> int:
    """Bytes of a file that are here already, whole or in part."""
    return next((path.stat().st_size for path in (target, _part(target)) if path.is_file()), 0)


def download(source: Source, target: Path, progress: Progress) -> None:
    """Fetch a file to `target` through a `.part` file that an interrupted run leaves behind."""
    url, part = source.url, _part(target)
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        done = part.stat().st_size if part.exists() else 0
        if source.size is not None and done > source.size:
            part.unlink()
            done = 0
        if done != source.size or not part.exists():
            with _opener().open(_request(source, done), timeout=_TIMEOUT_SECONDS) as response:
                done = done if response.status == http.client.PARTIAL_CONTENT else 0
                _receive(response, part, done, source, progress)
        os.replace(part, target)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink(missing_ok=True)
        raise UnavailableError(
            f"{url} answered {error.code} {error.reason}",
            remedy=source.remedies.get(error.code, source.remedy),
        ) from None
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise UnavailableError(
            f"cannot download {url}: {getattr(error, 'reason', error)}",
            remedy=f"check the network; {source.remedy}",
        ) from None
    except OSError as error:
        raise StorageError(
            f"cannot keep the download: {error.strerror or error}", remedy="free some space"
        ) from None


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _request(source: Source, done: int) -> urllib.request.Request:
    request = urllib.request.Request(source.url, headers={"User-Agent": "cairn"})
    for name, value in source.headers.items():
        request.add_unredirected_header(name, value)
    if done:
        request.add_header("Range", f"bytes={done}-")
    return request


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Takes the source's headers along to another address of the same host, and to no other host."""

    def redirect_request(
        self,
        request: urllib.request.Request,
        file: IO[bytes],
        code: int,
        message: str,
        headers: http.client.HTTPMessage,
        url: str,
    ) -> urllib.request.Request | None:
        following = super().redirect_request(request, file, code, message, headers, url)
        if following is not None and urlsplit(url)[:2] == urlsplit(request.full_url)[:2]:
            for name, value in request.unredirected_hdrs.items():
                following.add_unredirected_header(name, value)
        return following


@functools.cache
def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_SameHost, urllib.request.HTTPSHandler(context=certified_context()))


def certified_context() -> ssl.SSLContext:
    """Trust in the system's certificate authorities; where it has none (a bare container), in certifi's."""
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if not (paths.cafile or (paths.capath and os.listdir(paths.capath))):
        with suppress(ImportError):
            context.load_verify_locations(import_module("certifi").where())
    return context


def _receive(
    response: http.client.HTTPResponse, part: Path, done: int, source: Source, progress: Progress
) -> None:
    """Append what comes to the bytes `done`."""
    length = response.headers.get("Content-Length", "")
    expected = done + int(length) if length.isdecimal() else source.size
    if source.size is not None and expected != source.size:
        raise _other_size(part, source, expected)
    with part.open("ab" if done else "wb") as file, progress.task(source.label, expected) as task:
        task.resume(done)
        while chunk := response.read(_CHUNK_BYTES):
            file.write(chunk)
            done += len(chunk)
            task.advance(len(chunk))
            if source.size is not None and done > source.size:
                break
    if source.size is not None and done > source.size:
        raise _other_size(part, source, f"{done} or more")
    if expected is not None and done != expected:
        raise ConnectionError(f"the connection broke off after {done} of {expected} bytes")


def _other_size(part: Path, source: Source, size: int | str | None) -> IntegrityError:
    """The error for a file that is not as long as it should be; what there is of it goes away."""
    part.unlink(missing_ok=True)
    return IntegrityError(
        f"{source.url} would have {size} bytes, the file has {source.size}",
        remedy="run it again; the source may be changing just now",
    )
