"""Downloads of the real corpora: verified, resumed, refused in one line, against a server that misbehaves."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from generators.corpora import downloads
from generators.corpora.downloads import CorpusSource, File, Mirror, cache_folder, fetch, fetched, sources
from generators.corpora.questions import CorpusError
from generators.corpora.sets import EmbeddedCorpora, RealCorpora, corpora

TITLE = "The set under test"
# Several chunks of a download, and nothing that a compression makes shorter.
CONTENT = random.Random(0).randbytes(150_000)
OTHER = random.Random(1).randbytes(90_000)
CUT = 100_000


@dataclass(frozen=True)
class Answer:
    """What the server has at a path, and how it misbehaves there."""

    content: bytes
    status: int = 200
    cut: int | None = None
    silent: bool = False
    ranges: bool = True
    compressed: bool = False


class Server(ThreadingHTTPServer):
    """Answers as told, and remembers the path and the range of every request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, Answer] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.over = threading.Event()

    def handle_error(self, *args: object) -> None:
        """A client that hangs up is no error."""

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"

    def serve(self, path: str, answer: Answer, expected: bytes | None = None) -> Mirror:
        """A mirror of what is expected, which is what the server has unless told otherwise."""
        self.answers[path] = answer
        return Mirror(self.url(path), _sum(answer.content if expected is None else expected))

    def ranges(self, path: str) -> list[str | None]:
        """The ranges that were asked for, None for the whole."""
        return [asked for other, asked in self.requests if other == path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.requests.append((self.path, asked))
        answer = self.server.answers.get(self.path, Answer(b"", status=404))
        compressed = answer.compressed and "gzip" in self.headers.get("Accept-Encoding", "")
        body, status = gzip.compress(answer.content) if compressed else answer.content, answer.status
        if asked is not None and answer.ranges and status == 200:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            body, status = body[start:], 206 if start < len(body) else 416
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if compressed:
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(body[: answer.cut])
        if answer.silent:
            self.server.over.wait(10)
        self.close_connection = answer.cut is not None

    def log_message(self, *args: object) -> None:
        """Nothing is logged."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server of its own for every test."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.over.set()
        running.shutdown()
        thread.join()


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _source(*mirrors: Mirror, name: str = "words") -> CorpusSource:
    """A set of one file."""
    return CorpusSource(name, TITLE, (File("file.bin", mirrors),))


def _part(folder: Path, mirror: Mirror) -> Path:
    return folder / "words" / f"file.bin.{mirror.sha256[:8]}.part"


def _stored(folder: Path) -> dict[str, bytes]:
    """What lies in the cache."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _refusal(source: CorpusSource, folder: Path) -> str:
    """The message of a fetch that fails; it is one line with the title, every URL and both ways out."""
    with pytest.raises(CorpusError) as refused:
        fetch("words", folder, source)
    message = str(refused.value)
    assert "\n" not in message
    assert TITLE in message
    assert all(mirror.url in message for file in source.files for mirror in file.mirrors)
    assert "`python -m generators fetch words`" in message
    assert f"copy {folder / 'words'}" in message
    assert "--corpus embedded" in message
    return message


def test_a_set_is_fetched_and_then_found(server, tmp_path):
    """Every file of a set is fetched, stored as it is, and found in the order listed."""
    second, first = server.serve("/b", Answer(CONTENT)), server.serve("/a", Answer(OTHER))
    source = CorpusSource("words", TITLE, (File("b.bin", (second,)), File("a.bin", (first,))))
    assert fetch("words", tmp_path, source) == 2
    assert fetched("words", tmp_path, source) == [tmp_path / "words" / "b.bin", tmp_path / "words" / "a.bin"]
    assert _stored(tmp_path) == {"words/b.bin": CONTENT, "words/a.bin": OTHER}


def test_a_second_fetch_asks_for_nothing(server, tmp_path):
    """What has been fetched is not asked for again."""
    source = _source(server.serve("/file.bin", Answer(CONTENT)))
    assert fetch("words", tmp_path, source) == 1
    server.requests.clear()
    assert fetch("words", tmp_path, source) == 0
    assert server.requests == []


def test_only_what_is_missing_is_fetched(server, tmp_path):
    """The files of a set that are there are left alone."""
    names = ("one", "two", "three")
    contents = {name: name.encode() * 10 for name in names}
    files = tuple(File(name, (server.serve(f"/{name}", Answer(contents[name])),)) for name in names)
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "two").write_bytes(contents["two"])
    assert fetch("words", tmp_path, CorpusSource("words", TITLE, files)) == 2
    assert server.requests == [("/one", None), ("/three", None)]


def test_what_came_before_a_failure_stays(server, tmp_path):
    """Files fetched before one that cannot be had are not asked for again."""
    good, bad = server.serve("/good", Answer(OTHER)), server.serve("/bad", Answer(CONTENT, status=500))
    source = CorpusSource("words", TITLE, (File("good", (good,)), File("bad", (bad,))))
    with pytest.raises(CorpusError, match="/bad: status 500"):
        fetch("words", tmp_path, source)
    server.serve("/bad", Answer(CONTENT))
    server.requests.clear()
    assert fetch("words", tmp_path, source) == 1
    assert server.requests == [("/bad", None)]


def test_a_wrong_checksum_is_refused(server, tmp_path):
    """A file with another SHA-256 is refused, and nothing of it stays."""
    mirror = server.serve("/file.bin", Answer(CONTENT[:-1] + b"?"), expected=CONTENT)
    assert f"{mirror.url}: its SHA-256 is not the right one" in _refusal(_source(mirror), tmp_path)
    assert _stored(tmp_path) == {}


@pytest.mark.parametrize("status", [403, 404, 416, 500])
def test_a_refused_request_is_named_by_its_status(server, tmp_path, status):
    """A status that is no success is named, and nothing is stored."""
    mirror = server.serve("/file.bin", Answer(CONTENT, status=status))
    assert f"{mirror.url}: status {status}" in _refusal(_source(mirror), tmp_path)
    assert _stored(tmp_path) == {}


def test_no_server_at_all_is_named(server, tmp_path):
    """Where nobody listens, that is said, and nothing is stored."""
    source = _source(server.serve("/file.bin", Answer(CONTENT)))
    server.shutdown()
    server.server_close()
    assert "no answer (ConnectionError)" in _refusal(source, tmp_path)
    assert _stored(tmp_path) == {}


@pytest.mark.parametrize(
    "bad", [Answer(OTHER), Answer(CONTENT, status=404), Answer(CONTENT, cut=CUT)], ids=["wrong", "missing", "cut"]
)
@pytest.mark.parametrize("second", [CONTENT, OTHER[::-1]], ids=["same", "different"])
def test_the_second_mirror_is_taken_where_the_first_fails(server, tmp_path, bad, second):
    """A mirror that fails is followed by the next, whose sum may be another, and only the file is left."""
    first = server.serve("/first", bad, expected=CONTENT)
    source = _source(first, server.serve("/second", Answer(second)))
    assert fetch("words", tmp_path, source) == 1
    assert [path for path, _ in server.requests] == ["/first", "/second"]
    assert _stored(tmp_path) == {"words/file.bin": second}
    assert fetched("words", tmp_path, source) == [tmp_path / "words" / "file.bin"]


def test_the_first_mirror_is_preferred(server, tmp_path):
    """While the first mirror answers, the second is not asked."""
    source = _source(server.serve("/first", Answer(CONTENT)), server.serve("/second", Answer(OTHER)))
    fetch("words", tmp_path, source)
    assert server.requests == [("/first", None)]


def test_every_mirror_that_failed_is_named(server, tmp_path):
    """Where all mirrors fail, each is named with its own reason."""
    first = server.serve("/first", Answer(CONTENT, status=503))
    second = server.serve("/second", Answer(OTHER), expected=CONTENT)
    message = _refusal(_source(first, second), tmp_path)
    assert f"{first.url}: status 503; {second.url}: its SHA-256 is not the right one" in message


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_download_is_gone_on_with(server, tmp_path, ranges):
    """After a cut the next fetch asks for the rest alone, and takes the whole from a server that ignores that."""
    mirror = server.serve("/file.bin", Answer(CONTENT, cut=CUT))
    source = _source(mirror)
    message = _refusal(source, tmp_path)
    kept = _part(tmp_path, mirror).read_bytes()
    assert 0 < len(kept) <= CUT
    assert CONTENT.startswith(kept)
    assert f"the connection was cut after {len(kept)} bytes" in message
    with pytest.raises(CorpusError, match="is not in the cache"):
        fetched("words", tmp_path, source)

    server.serve("/file.bin", Answer(CONTENT, ranges=ranges))
    assert fetch("words", tmp_path, source) == 1
    assert server.ranges("/file.bin") == [None, f"bytes={len(kept)}-"]
    assert _stored(tmp_path) == {"words/file.bin": CONTENT}


def test_a_download_is_gone_on_with_after_every_cut(server, tmp_path):
    """A connection that is cut again and again still brings the file, every time a piece more."""
    mirror = server.serve("/file.bin", Answer(CONTENT, cut=70_000))
    source = _source(mirror)
    sizes = [0]
    for _ in range(2):
        _refusal(source, tmp_path)
        sizes.append(_part(tmp_path, mirror).stat().st_size)
    assert fetch("words", tmp_path, source) == 1
    assert sizes == sorted(set(sizes))
    assert server.ranges("/file.bin") == [None, *(f"bytes={size}-" for size in sizes[1:])]
    assert _stored(tmp_path) == {"words/file.bin": CONTENT}


def test_a_silent_server_is_left(server, tmp_path, monkeypatch):
    """A server that falls silent is left after the time allowed, and what came is gone on with."""
    monkeypatch.setattr(downloads, "_TIMEOUT", 0.2)
    mirror = server.serve("/file.bin", Answer(CONTENT, cut=CUT, silent=True))
    began = time.monotonic()
    assert "the connection was cut" in _refusal(_source(mirror), tmp_path)
    assert time.monotonic() - began < 4
    kept = _part(tmp_path, mirror).stat().st_size
    server.serve("/file.bin", Answer(CONTENT))
    assert fetch("words", tmp_path, _source(mirror)) == 1
    assert server.ranges("/file.bin") == [None, f"bytes={kept}-"]


@pytest.mark.parametrize("part", [0, 70_000])
def test_a_compressing_server_is_understood(server, tmp_path, part):
    """From a server that compresses where it may, a file is fetched as it is, from the start or from a part."""
    mirror = server.serve("/file.bin", Answer(CONTENT, compressed=True))
    if part:
        _part(tmp_path, mirror).parent.mkdir()
        _part(tmp_path, mirror).write_bytes(CONTENT[:part])
    assert fetch("words", tmp_path, _source(mirror)) == 1
    assert _stored(tmp_path) == {"words/file.bin": CONTENT}


def test_a_garbage_part_costs_one_fetch(server, tmp_path):
    """A part that is not the beginning of the file makes one wrong checksum, and the next fetch starts afresh."""
    mirror = server.serve("/file.bin", Answer(CONTENT))
    _part(tmp_path, mirror).parent.mkdir()
    _part(tmp_path, mirror).write_bytes(b"garbage")
    assert "its SHA-256 is not the right one" in _refusal(_source(mirror), tmp_path)
    assert _stored(tmp_path) == {}
    assert fetch("words", tmp_path, _source(mirror)) == 1
    assert server.ranges("/file.bin") == ["bytes=7-", None]
    assert _stored(tmp_path) == {"words/file.bin": CONTENT}


@pytest.mark.parametrize("part", [CONTENT, CONTENT + b"more"], ids=["as long", "longer"])
@pytest.mark.parametrize("ranges", [True, False])
def test_a_part_as_long_as_the_file_is_fetched_afresh(server, tmp_path, part, ranges):
    """A part that leaves nothing to ask for is replaced by the whole file in the same fetch."""
    mirror = server.serve("/file.bin", Answer(CONTENT, ranges=ranges))
    _part(tmp_path, mirror).parent.mkdir()
    _part(tmp_path, mirror).write_bytes(part)
    assert fetch("words", tmp_path, _source(mirror)) == 1
    assert server.ranges("/file.bin")[0] == f"bytes={len(part)}-"
    assert _stored(tmp_path) == {"words/file.bin": CONTENT}


def test_a_damaged_file_is_named_and_fetched_again(server, tmp_path):
    """A file that is no longer what was fetched is named with both ways out, and fetched again."""
    source = _source(server.serve("/file.bin", Answer(CONTENT)))
    fetch("words", tmp_path, source)
    (path,) = fetched("words", tmp_path, source)
    path.write_bytes(CONTENT[:-1])
    named = f"{re.escape(str(path))} is damaged: run `python -m generators fetch words`.*--corpus embedded"
    with pytest.raises(CorpusError, match=named):
        fetched("words", tmp_path, source)
    assert fetch("words", tmp_path, source) == 1
    assert fetched("words", tmp_path, source) == [path]
    assert _stored(tmp_path) == {"words/file.bin": CONTENT}


def test_a_damaged_file_is_named_when_offline(server, tmp_path):
    """A damaged file that cannot be fetched again is refused by the fetch and by the next look, and never used."""
    source = _source(server.serve("/file.bin", Answer(CONTENT, status=500)))
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "file.bin").write_bytes(OTHER)
    _refusal(source, tmp_path)
    with pytest.raises(CorpusError, match=f"^{TITLE} \\(words\\) is not in the cache: .*--corpus embedded"):
        fetched("words", tmp_path, source)


def test_a_set_that_was_never_fetched_is_named(tmp_path):
    """A look into an empty cache names the set and both ways out in one line, and stores nothing."""
    source = _source(Mirror("http://127.0.0.1:1/file.bin", _sum(CONTENT)))
    with pytest.raises(CorpusError) as refused:
        fetched("words", tmp_path, source)
    message = str(refused.value)
    assert message.startswith(f"{TITLE} (words) is not in the cache: run `python -m generators fetch words` where")
    assert f"copy {tmp_path / 'words'} here" in message
    assert "--corpus embedded" in message
    assert "\n" not in message
    assert _stored(tmp_path) == {}


def test_progress_grows_up_to_the_size(server, tmp_path):
    """Progress tells of each file with growing numbers that end at its size."""
    one, two = server.serve("/one", Answer(CONTENT)), server.serve("/two", Answer(OTHER))
    source = CorpusSource("words", TITLE, (File("one", (one,)), File("two", (two,))))
    seen: list[tuple[File, int, int | None]] = []
    fetch("words", tmp_path, source, lambda *told: seen.append(told))
    for file, content in zip(source.files, (CONTENT, OTHER), strict=True):
        told = [(done, total) for other, done, total in seen if other is file]
        assert {total for _, total in told} == {len(content)}
        done = [number for number, _ in told]
        assert len(done) > 1
        assert done == sorted(set(done))
        assert done[-1] == len(content)


@pytest.mark.parametrize("ranges", [True, False])
def test_progress_counts_the_part_that_is_there(server, tmp_path, ranges):
    """Progress begins above the part that is gone on with, and from the start where the whole comes again."""
    mirror = server.serve("/file.bin", Answer(CONTENT, ranges=ranges))
    _part(tmp_path, mirror).parent.mkdir()
    _part(tmp_path, mirror).write_bytes(CONTENT[:CUT])
    seen: list[tuple[int, int | None]] = []
    fetch("words", tmp_path, _source(mirror), lambda file, done, total: seen.append((done, total)))
    assert (seen[0][0] > CUT) == ranges
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert {total for _, total in seen} == {len(CONTENT)}


def test_the_cache_is_where_the_variable_says(monkeypatch, tmp_path):
    """LONGWATCH_CACHE names the cache; unset or empty, it is the user's own."""
    monkeypatch.setenv("LONGWATCH_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("LONGWATCH_CACHE", "")
    own = cache_folder()
    assert own.is_absolute()
    assert "longwatch" in own.parts
    monkeypatch.delenv("LONGWATCH_CACHE")
    assert cache_folder() == own


def test_the_sources_are_complete():
    """There are four sets, with 49 essays and one file for each of the others."""
    counts = {name: len({file.name for file in source.files}) for name, source in sources().items()}
    assert counts == {"essays": 49, "single_hop": 1, "two_hop": 1, "words": 1}
    assert set(downloads.SETS) == set(counts)
    assert all(source.name == name and source.title for name, source in sources().items())


@pytest.mark.parametrize("name", downloads.SETS)
def test_every_mirror_has_a_sum_and_the_file_in_its_url(name):
    """Every file has a mirror, every mirror 64 hexadecimal digits and a URL that ends in the file's name."""
    for file in sources()[name].files:
        assert file.mirrors
        assert len({mirror.url for mirror in file.mirrors}) == len(file.mirrors)
        for mirror in file.mirrors:
            assert re.fullmatch(r"[0-9a-f]{64}", mirror.sha256)
            assert re.fullmatch(rf"https?://[^/]+/.*{re.escape(file.name)}", mirror.url)


ESSAYS = {"second.txt": "A first sen", "first.txt": "tence.\nAnd \u00e9", "third.txt": "ach next one."}
SINGLE_HOP = {
    "data": [
        {"paragraphs": [{"context": "Here it is.", "qas": [{"question": "Where?", "answers": [{"text": "Here"}]}]}]}
    ]
}
TWO_HOP = [{"question": "Who?", "answer": "He", "supporting_facts": [["T", 0]], "context": [["T", ["He", " is."]]]}]
WORDS = {"1": "zebra", "2": "ant", "3": "mole"}
SMALL = {
    "essays": {name: text.encode() for name, text in ESSAYS.items()},
    "single_hop": {"squad.json": json.dumps(SINGLE_HOP).encode()},
    "two_hop": {"hotpot.json": json.dumps(TWO_HOP).encode()},
    "words": {"words.json": json.dumps(WORDS).encode()},
}


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> dict[str, CorpusSource]:
    """Small sets listed in place of the real ones, at an address where nobody listens."""
    listed = {name: _listed(name, files) for name, files in SMALL.items()}
    monkeypatch.setattr(downloads, "sources", lambda: listed)
    return listed


def _listed(name: str, files: dict[str, bytes]) -> CorpusSource:
    mirrors = {file: (Mirror(f"http://127.0.0.1:1/{file}", _sum(content)),) for file, content in files.items()}
    return CorpusSource(name, TITLE, tuple(File(file, mirrors[file]) for file in files))


def _store(folder: Path, name: str, files: dict[str, bytes]) -> None:
    (folder / name).mkdir()
    for file, content in files.items():
        (folder / name / file).write_bytes(content)


@pytest.fixture
def filled(listed: dict[str, CorpusSource], tmp_path: Path) -> Path:
    """A cache that holds the small sets."""
    for name, files in SMALL.items():
        _store(tmp_path, name, files)
    return tmp_path


def test_essays_are_joined_in_the_order_listed(filled):
    """The essays follow each other as they are listed, with nothing between them."""
    essays = RealCorpora(filled).essays
    assert essays.words == ("A", "first", "sentence.", "And", "\u00e9ach", "next", "one.")


def test_questions_are_read_from_the_cache(filled):
    """Both sets of questions are read in their own shapes."""
    real = RealCorpora(filled)
    assert real.single_hop.documents == ("Here it is.",)
    assert [(question.text, question.answers) for question in real.single_hop.questions] == [("Where?", ("Here",))]
    assert real.two_hop.documents == ("T\nHe is.",)
    assert [(question.text, question.answers) for question in real.two_hop.questions] == [("Who?", ("He",))]


def test_words_are_read_in_their_order(filled):
    """The words are the object's values, in the file's order."""
    assert RealCorpora(filled).words.words == ("zebra", "ant", "mole")


@pytest.mark.parametrize(
    "content", [b"[]", b'["word"]', b"{}", b'"word"', b'{"1": 1}', b'{"1": "a", "2": null}', b"", b"\xff"]
)
def test_other_words_are_refused(listed, tmp_path, content):
    """A list of words that is no object of numbers to words is refused by its file."""
    listed["words"] = _listed("words", {"words.json": content})
    _store(tmp_path, "words", {"words.json": content})
    with pytest.raises(CorpusError, match=f"^{re.escape(str(tmp_path / 'words' / 'words.json'))}"):
        _ = RealCorpora(tmp_path).words


@pytest.mark.parametrize("name", downloads.SETS)
def test_a_set_is_read_without_the_others(listed, tmp_path, name):
    """Of the sets only the one that is asked for must be there; another is named when it is asked for."""
    _store(tmp_path, name, SMALL[name])
    real = RealCorpora(tmp_path)
    for other in downloads.SETS:
        if other == name:
            assert getattr(real, other)
        else:
            with pytest.raises(CorpusError, match=rf"\({other}\) is not in the cache"):
                getattr(real, other)


@pytest.mark.parametrize("name", downloads.SETS)
def test_other_files_in_place_of_the_real_ones_are_damaged(tmp_path, name):
    """Files of the right names with another content are named as damaged."""
    _store(tmp_path, name, {file.name: b"something else" for file in sources()[name].files})
    first = tmp_path / name / sources()[name].files[0].name
    with pytest.raises(CorpusError, match=f"^{re.escape(str(first))} is damaged"):
        getattr(RealCorpora(tmp_path), name)


def test_what_is_fetched_is_what_is_read(server, listed, tmp_path):
    """A set that is fetched by its name alone is the one that is read."""
    with pytest.raises(CorpusError, match=r"\(words\) is not in the cache"):
        _ = RealCorpora(tmp_path).words
    mirror = server.serve("/words.json", Answer(SMALL["words"]["words.json"]))
    listed["words"] = CorpusSource("words", TITLE, (File("words.json", (mirror,)),))
    assert fetch("words", tmp_path) == 1
    assert RealCorpora(tmp_path).words.words == ("zebra", "ant", "mole")


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Sets by name are made anew, here and afterwards."""
    corpora.cache_clear()
    yield
    corpora.cache_clear()


def test_corpora_by_name(filled, monkeypatch, forgotten):
    """A name gives the embedded set or the one in the user's cache, always the same object."""
    monkeypatch.setenv("LONGWATCH_CACHE", str(filled))
    embedded, real = corpora("embedded"), corpora("real")
    assert isinstance(embedded, EmbeddedCorpora)
    assert isinstance(real, RealCorpora)
    assert (embedded.name, real.name) == ("embedded", "real")
    assert real.words.words == ("zebra", "ant", "mole")
    assert embedded.words.words == ()
    assert corpora("embedded") is embedded
    assert corpora("real") is real


@pytest.mark.parametrize("name", ["x", "", "Real"])
def test_an_unknown_name_is_refused(name):
    """A name that is neither is refused with those there are."""
    with pytest.raises(ValueError, match=f"^unknown corpus '{name}'; there are embedded, real$"):
        corpora(name)
