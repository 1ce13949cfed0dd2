"""Real corpora: where they come from, fetched on request into the user's cache.

`sources.toml` lists the files of every set with their mirrors and SHA-256 sums. Nothing is used whose
sum is not right.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from generators.corpora.questions import CorpusError

if TYPE_CHECKING:
    import requests

__all__ = ["SETS", "CorpusSource", "File", "Mirror", "cache_folder", "fetch", "fetched", "sources"]

SETS: Final = ("essays", "single_hop", "two_hop", "words")

_TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 1 << 13


@dataclass(frozen=True)
class Mirror:
    """One place to get a file from.

    Attributes:
        url: Where.
        sha256: The sum of what is there, in hexadecimal; mirrors may store the same content differently.
    """

    url: str
    sha256: str


@dataclass(frozen=True)
class File:
    """One file of a set.

    Attributes:
        name: In the cache.
        mirrors: Where to get it, in the order to try.
    """

    name: str
    mirrors: tuple[Mirror, ...]


@dataclass(frozen=True)
class CorpusSource:
    """The files of a set.

    Attributes:
        name: The set's name.
        title: What it is.
        files: In the order they are joined.
    """

    name: str
    title: str
    files: tuple[File, ...]


def cache_folder() -> Path:
    """The user's cache, or what the variable LONGWATCH_CACHE names."""
    import pooch

    given = os.environ.get("LONGWATCH_CACHE")
    return Path(given) if given else Path(pooch.os_cache("longwatch"))


@cache
def sources() -> Mapping[str, CorpusSource]:
    """Every set that can be fetched, by name."""
    content = tomllib.loads(Path(__file__).with_name("sources.toml").read_text(encoding="utf-8"))
    return {name: _source(name, entry) for name, entry in content.items()}


def _source(name: str, entry: Mapping[str, Any]) -> CorpusSource:
    files = []
    for file, sums in entry["files"].items():
        each = sums if isinstance(sums, list) else [sums] * len(entry["mirrors"])
        mirrors = (Mirror(url.format(file=file), sha) for url, sha in zip(entry["mirrors"], each, strict=True))
        files.append(File(file, tuple(mirrors)))
    return CorpusSource(name, entry["title"], tuple(files))


def fetched(name: str, folder: Path, source: CorpusSource | None = None) -> list[Path]:
    """The files of a set, from the cache.

    Raises:
        CorpusError: One of them is not there or damaged.
    """
    source = sources()[name] if source is None else source
    paths = [folder / name / file.name for file in source.files]
    for file, path in zip(source.files, paths, strict=True):
        if not path.is_file():
            raise CorpusError(f"{source.title} ({name}) is not in the cache: {_ways_out(source, path)}")
        if not _sound(file, path):
            raise CorpusError(f"{path} is damaged: {_ways_out(source, path)}")
    return paths


def fetch(
    name: str,
    folder: Path,
    source: CorpusSource | None = None,
    progress: Callable[[File, int, int | None], None] = lambda file, done, total: None,
) -> int:
    """Fetches what is missing or damaged of a set; what is there stays, and a part of a file is gone on with.

    Args:
        name: The set's name.
        folder: The cache.
        source: Its files; None takes those of `sources`.
        progress: Called with a file, the bytes that are there, and how many there will be, if known.

    Returns:
        How many files were fetched.

    Raises:
        CorpusError: A file cannot be had from any mirror.
    """
    source = sources()[name] if source is None else source
    new = 0
    for file in source.files:
        path = folder / name / file.name
        if _sound(file, path):
            continue
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise CorpusError(f"{path} cannot be written: {error.strerror}") from None
        reasons = []
        for mirror in file.mirrors:
            reason = _retrieved(file, mirror, path, progress)
            if reason is None:
                new += 1
                break
            reasons.append(f"{mirror.url}: {reason}")
        else:
            tried = "; ".join(reasons)
            raise CorpusError(f"{source.title} ({name}) cannot be fetched ({tried}): {_ways_out(source, path)}")
    return new


def _ways_out(source: CorpusSource, path: Path) -> str:
    return (
        f"run `python -m generators fetch {source.name}` where there is a network and copy "
        f"{path.parent} here, or use the embedded set (--corpus embedded)"
    )


def _sound(file: File, path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return any(mirror.sha256 == digest for mirror in file.mirrors)


def _retrieved(file: File, mirror: Mirror, path: Path, progress: Callable[[File, int, int | None], None]) -> str | None:
    """Fetches a file from one mirror; the reason why that failed, if it did."""
    import logging

    import pooch
    import requests

    # Failures are told in one line by whoever called.
    pooch.get_logger().setLevel(logging.ERROR)
    part = path.with_name(f"{path.name}.{mirror.sha256[:8]}.part")
    try:
        pooch.retrieve(
            mirror.url,
            known_hash=f"sha256:{mirror.sha256}",
            fname=path.name,
            path=path.parent,
            downloader=_Resuming(part, lambda done, total: progress(file, done, total)),
        )
    except requests.HTTPError as error:
        return "no answer" if error.response is None else f"status {error.response.status_code}"
    except requests.exceptions.ContentDecodingError:
        part.unlink(missing_ok=True)
        return "it came in an encoding that was not asked for"
    except requests.RequestException as error:
        return f"no answer ({type(error).__name__})"
    except _CutShort as error:
        return f"the connection was cut after {error.done} bytes; fetching again goes on from there"
    except ValueError:
        part.unlink(missing_ok=True)
        return "its SHA-256 is not the right one"
    except OSError as error:
        return f"it cannot be stored ({error.strerror})"
    for other in path.parent.glob(f"{path.name}.*.part"):
        other.unlink()
    return None


class _CutShort(Exception):
    def __init__(self, done: int) -> None:
        super().__init__(done)
        self.done = done


class _Resuming:
    """A downloader for pooch that keeps what came of a file and asks only for the rest."""

    def __init__(self, part: Path, progress: Callable[[int, int | None], None]) -> None:
        self._part = part
        self._progress = progress

    def __call__(self, url: str, output_file: str | IO[bytes], pooch: object) -> None:
        import requests

        done = self._part.stat().st_size if self._part.exists() else 0
        # Ranges count the bytes as they are stored, so nothing may be compressed on the way.
        headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={done}-"} if done else {})}
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            if done and response.status_code == requests.codes.requested_range_not_satisfiable:
                # The part is as long as the file, or longer: it starts again.
                self._part.unlink()
                return self(url, output_file, pooch)
            response.raise_for_status()
            going_on = response.status_code == requests.codes.partial_content
            self._append(response, done if going_on else 0)
        with self._part.open("rb") as source:
            if isinstance(output_file, str):
                shutil.copy(self._part, output_file)
            else:
                shutil.copyfileobj(source, output_file)
        return None

    def _append(self, response: requests.Response, done: int) -> None:
        import requests

        length = response.headers.get("Content-Length")
        total = done + int(length) if length is not None and "Content-Encoding" not in response.headers else None
        with self._part.open("ab" if done else "wb") as stream:
            try:
                for chunk in response.iter_content(_CHUNK):
                    stream.write(chunk)
                    done += len(chunk)
                    self._progress(done, total)
            except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
                raise _CutShort(done) from None
        if total is not None and done < total:
            raise _CutShort(done)
