"""Downloads from well-behaved and misbehaving mirrors on this machine."""

import hashlib
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmlp.common.errors import DataError
from fastmlp.datasets import cifar10, download, load
from fastmlp.datasets.download import RemoteFile

CONTENT = bytes(range(256)) * 1000
HALF = len(CONTENT) // 2


class Server(ThreadingHTTPServer):
    daemon_threads = False  # server_close then waits for them

    def handle_error(self, *_):
        """Does not report clients that hang up, as some tests do."""


class Mirror:
    """A server of `content`, with the faults that tests set; `ranges` lists the Range headers it received."""

    def __init__(self, content=CONTENT):
        self.content, self.ranges = content, []
        self.reason = None  # the words beside the status
        self.status, self.html, self.knows_ranges, self.sends_length = 200, False, True, True
        self.break_after = self.stall_after = None  # bytes of one answer
        self.drip = None  # seconds between two bytes
        self.location = None  # of a redirect
        self.length = None  # what it says instead of the true one
        self.released = threading.Event()
        self.server = Server(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_port}/file"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self):
        self.released.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def _handler(mirror):  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                mirror.ranges.append(self.headers["Range"])
                mirror._answer(self)

            def log_message(self, *_):
                """Keeps stderr for the progress."""

        return Handler

    def _answer(self, handler):
        if self.location is not None:
            handler.send_response(302)
            handler.send_header("Location", self.location)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        start = int(handler.headers["Range"].removeprefix("bytes=").removesuffix("-")) if self.knows_ranges else 0
        body = b"<html>Please log in</html>" if self.html else self.content[start:]
        partial = self.knows_ranges and not self.html and self.status == 200
        handler.send_response(206 if partial else self.status, self.reason)
        handler.send_header("Content-Type", "text/html" if self.html else "application/gzip")
        if partial:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        if self.sends_length:
            handler.send_header("Content-Length", self.length or str(len(body)))
        handler.end_headers()
        self._send(handler, body)

    def _send(self, handler, body):
        if self.stall_after is not None:
            handler.wfile.write(body[: self.stall_after])
            self.released.wait(10)
        elif self.drip is not None:
            for byte in body[:1000]:
                handler.wfile.write(bytes([byte]))
                if self.released.wait(self.drip):
                    break
        else:
            handler.wfile.write(body[: self.break_after])


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    """No proxy between the tests and 127.0.0.1."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def impatient(monkeypatch):
    """Timeouts for mirrors that never answer, long enough for a slow machine not to mistake others for one."""
    monkeypatch.setattr(download, "TIMEOUTS", (5.0, 0.3))


@pytest.fixture
def mirrors():
    started = []

    def start(content=CONTENT):
        started.append(Mirror(content))
        return started[-1]

    yield start
    for mirror in started:
        mirror.close()


@pytest.fixture
def mirror(mirrors):
    return mirrors()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache" / "file"


def part_of(path):
    return path.with_name("file.part")


def fetch(path, *mirrors):
    """Download CONTENT to `path` from the mirrors in turn."""
    md5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    urls = tuple(getattr(mirror, "url", mirror) for mirror in mirrors)
    download.download(RemoteFile("The file", urls, len(CONTENT), md5), path)


def leave_part(path, content):
    path.parent.mkdir(parents=True)
    part_of(path).write_bytes(content)


class TestWell:
    def test_the_whole_file_arrives_and_nothing_else_is_left(self, mirror, path):
        fetch(path, mirror)
        assert path.read_bytes() == CONTENT
        assert list(path.parent.iterdir()) == [path]

    def test_an_earlier_try_is_resumed(self, mirror, path):
        leave_part(path, CONTENT[:HALF])
        fetch(path, mirror)
        assert path.read_bytes() == CONTENT
        assert mirror.ranges == [f"bytes={HALF}-"]

    @settings(max_examples=15)
    @given(have=st.integers(0, len(CONTENT)), cuts=st.lists(st.integers(1, len(CONTENT)), max_size=3))
    def test_any_part_and_any_breaks_give_the_whole_file(self, tmp_path_factory, have, cuts):
        mirror, path = Mirror(), tmp_path_factory.mktemp("cuts") / "cache" / "file"
        try:
            leave_part(path, CONTENT[:have])
            for mirror.break_after in [*cuts, None]:
                try:
                    fetch(path, mirror)
                except DataError:
                    assert mirror.break_after is not None
            assert path.read_bytes() == CONTENT
        finally:
            mirror.close()

    def test_a_complete_part_needs_no_request(self, mirror, path):
        leave_part(path, CONTENT)
        fetch(path, mirror)
        assert path.read_bytes() == CONTENT
        assert mirror.ranges == []

    def test_a_server_without_range_sends_it_all_again(self, mirror, path):
        mirror.knows_ranges = False
        leave_part(path, CONTENT[:HALF])
        fetch(path, mirror)
        assert path.read_bytes() == CONTENT

    def test_a_server_that_sends_no_length_will_do(self, mirror, path):
        mirror.knows_ranges = mirror.sends_length = False
        fetch(path, mirror)
        assert path.read_bytes() == CONTENT

    def test_a_connection_that_breaks_is_taken_up_again(self, mirror, path):
        mirror.break_after = len(CONTENT) // 3
        fetch(path, mirror)
        assert path.read_bytes() == CONTENT
        assert len(mirror.ranges) == 4

    def test_a_connection_that_breaks_all_the_time_is_given_up(self, mirror, path):
        mirror.break_after = len(CONTENT) // 100 - 1
        with pytest.raises(DataError, match="broke off"):
            fetch(path, mirror)
        assert len(mirror.ranges) == 1
        assert part_of(path).stat().st_size == mirror.break_after

    @pytest.mark.usefixtures("impatient")
    def test_a_stall_is_ended_and_the_download_resumed(self, mirror, path):
        mirror.stall_after = HALF + 1
        fetch(path, mirror)
        assert path.read_bytes() == CONTENT
        resumed_at = int(mirror.ranges[1].strip("bytes=-"))
        assert HALF - download.CHUNK_BYTES < resumed_at <= HALF + 1

    def test_a_damaged_part_is_not_held_against_the_mirror(self, mirror, path):
        leave_part(path, b"x" * HALF)
        fetch(path, mirror)
        assert path.read_bytes() == CONTENT
        assert mirror.ranges == [f"bytes={HALF}-", "bytes=0-"]

    def test_an_overlong_part_is_thrown_away(self, mirror, path):
        leave_part(path, CONTENT + b"x")
        fetch(path, mirror)
        assert path.read_bytes() == CONTENT

    def test_of_several_at_once_one_downloads_and_the_others_wait(self, mirror, path):
        with ThreadPoolExecutor() as pool:
            for done in [pool.submit(fetch, path, mirror) for _ in range(4)]:
                done.result()
        assert path.read_bytes() == CONTENT
        assert mirror.ranges == ["bytes=0-"]

    def test_a_redirect_is_followed(self, mirrors, path):
        moved, good = mirrors(), mirrors()
        moved.location = good.url
        leave_part(path, CONTENT[:HALF])
        fetch(path, moved)
        assert path.read_bytes() == CONTENT
        assert good.ranges == moved.ranges == [f"bytes={HALF}-"]


class TestBadly:
    @pytest.mark.parametrize("location", ["/round/and/round", "file:///etc/passwd", "ftp://127.0.0.1/file", "http://["])
    def test_a_redirect_to_nowhere_is_given_up(self, mirrors, path, location):
        moved, good = mirrors(), mirrors()
        moved.location = location
        fetch(path, moved, good)
        assert path.read_bytes() == CONTENT
        assert good.ranges == ["bytes=0-"]

    @pytest.mark.parametrize("length", ["-5", "many", "99999999999999999999", "0", str(len(CONTENT) + 1), "1"])
    def test_a_mirror_that_lies_about_the_length_is_given_up(self, mirrors, path, length):
        liar, good = mirrors(), mirrors()
        liar.length, liar.knows_ranges = length, False
        fetch(path, liar, good)
        assert path.read_bytes() == CONTENT

    def test_a_mirror_that_sends_a_byte_now_and_then_is_given_up(self, mirrors, path, monkeypatch, capsys):
        monkeypatch.setattr(download, "SECONDS_OF_PATIENCE", 0.2)
        dripping, good = mirrors(), mirrors()
        dripping.drip = 0.01
        fetch(path, dripping, good)
        assert path.read_bytes() == CONTENT
        assert "sends too slowly" in capsys.readouterr().err

    def test_what_a_mirror_says_does_not_steer_the_terminal(self, mirrors, path, capsys):
        rude, good = mirrors(), mirrors()
        rude.status, rude.reason = 404, "\x1b]0;owned\x07"
        fetch(path, rude, good)
        said = capsys.readouterr().err
        assert "answered 404" in said
        assert "\x1b" not in said

    def test_the_next_mirror_takes_over(self, mirrors, path, capsys):
        missing, good = mirrors(), mirrors()
        missing.status = 404
        fetch(path, missing, good)
        assert path.read_bytes() == CONTENT
        assert "The file: 127.0.0.1: answered 404" in capsys.readouterr().err

    def test_the_next_mirror_goes_on_where_the_last_broke_off(self, mirrors, path):
        broken, good = mirrors(), mirrors()
        broken.knows_ranges, broken.break_after = False, HALF
        fetch(path, broken, good)
        assert path.read_bytes() == CONTENT
        assert good.ranges == [f"bytes={HALF}-"]

    def test_wrong_content_is_deleted_and_the_next_mirror_starts_anew(self, mirrors, path):
        wrong, good = mirrors(b"x" * len(CONTENT)), mirrors()
        fetch(path, wrong, good)
        assert path.read_bytes() == CONTENT
        assert good.ranges == ["bytes=0-"]

    def test_wrong_content_everywhere_is_an_error_and_leaves_nothing(self, mirrors, path):
        with pytest.raises(DataError, match="sent wrong content"):
            fetch(path, mirrors(b"x" * len(CONTENT)))
        assert list(path.parent.iterdir()) == []

    @pytest.mark.parametrize("knows_ranges", [True, False])
    def test_a_file_of_another_size_is_not_even_begun(self, mirrors, path, knows_ranges):
        longer = mirrors(CONTENT * 2)
        longer.knows_ranges = knows_ranges
        with pytest.raises(DataError, match=f"offers a file of {2 * len(CONTENT)} bytes, not of {len(CONTENT)}"):
            fetch(path, longer)
        assert part_of(path).read_bytes() == b""

    def test_an_endless_answer_is_cut_off(self, mirrors, path):
        longer = mirrors(CONTENT * 4)
        longer.knows_ranges = longer.sends_length = False
        with pytest.raises(DataError, match="sends more bytes than the file has"):
            fetch(path, longer)
        assert part_of(path).stat().st_size <= len(CONTENT)

    def test_the_page_of_a_login_is_not_taken_for_the_file(self, mirror, path):
        mirror.html = True
        leave_part(path, CONTENT[:HALF])
        with pytest.raises(DataError, match="answered with a web page"):
            fetch(path, mirror)
        assert part_of(path).read_bytes() == CONTENT[:HALF]

    @pytest.mark.usefixtures("impatient")
    def test_a_mirror_that_stays_silent_is_given_up(self, mirror, path):
        mirror.stall_after = 0
        with pytest.raises(DataError, match="stopped answering"):
            fetch(path, mirror)
        assert len(mirror.ranges) == 1

    @pytest.mark.parametrize("url", ["http://127.0.0.1:9/file", "no url", "http://", "http://["])
    def test_no_server_is_an_error_that_names_the_fix(self, path, url):
        with pytest.raises(DataError, match=r"The file could not be downloaded .* by hand .* --data-dir") as caught:
            fetch(path, url)
        assert caught.value.exit_code == 4

    def test_a_folder_that_cannot_be_written_is_a_data_error(self, mirror, tmp_path):
        (tmp_path / "cache").write_text("a file in the folder's place")
        with pytest.raises(DataError, match=r"cannot be written .* FASTMLP_CACHE_DIR"):
            fetch(tmp_path / "cache" / "file", mirror)

    def test_progress_is_shown_on_stderr(self, mirror, path, capsys, monkeypatch):
        monkeypatch.setattr("fastmlp.common.progress.SECONDS_BETWEEN_LINES", 0.0)
        fetch(path, mirror)
        assert f"The file: {len(CONTENT):,}/{len(CONTENT):,} bytes" in capsys.readouterr().err

    @pytest.mark.parametrize("length", [0, 1, HALF])
    def test_a_short_answer_that_ends_well_is_given_up(self, mirrors, path, length):
        short = mirrors(CONTENT[:length])
        short.knows_ranges = short.sends_length = False
        with pytest.raises(DataError, match="ended too early"):
            fetch(path, short)
        assert len(short.ranges) <= 2


class TestCifar10:
    """From the name on the command line to the images."""

    @pytest.fixture
    def archive(self, tmp_path, monkeypatch):
        """The bytes of a small archive that passes for the official one."""
        (tmp_path / "record").write_bytes(bytes([3, *[100] * 3072]))
        with tarfile.open(tmp_path / "made.tar.gz", "w:gz") as made:
            for name in cifar10.OFFICIAL_SHA256:
                made.add(tmp_path / "record", f"cifar-10-batches-bin/{name}")
        content = (tmp_path / "made.tar.gz").read_bytes()
        monkeypatch.setattr(cifar10, "ARCHIVE_MD5", hashlib.md5(content, usedforsecurity=False).hexdigest())
        monkeypatch.setattr(cifar10, "ARCHIVE_BYTES", len(content))
        monkeypatch.setattr(cifar10, "FILE_BYTES", 3073)
        monkeypatch.setenv("FASTMLP_CACHE_DIR", str(tmp_path / "cache"))
        monkeypatch.delenv("FASTMLP_DATA_DIR", raising=False)
        return content

    def test_it_is_downloaded_once(self, archive, mirrors, monkeypatch):
        mirror = mirrors(archive)
        monkeypatch.setenv("FASTMLP_CIFAR10_URL", mirror.url)
        assert load("cifar10").train.labels.tolist() == [3] * 5
        assert load("cifar10").test.labels.tolist() == [3]
        assert mirror.ranges == ["bytes=0-"]

    def test_the_mirrors_stand_in_for_each_other(self, archive, mirrors, monkeypatch):
        dead, good = mirrors(archive), mirrors(archive)
        dead.status = 503
        monkeypatch.delenv("FASTMLP_CIFAR10_URL", raising=False)
        monkeypatch.setattr(cifar10, "URLS", (dead.url, good.url))
        assert len(load("cifar10").train) == 5

    def test_without_a_network_the_error_says_what_to_do(self, archive, monkeypatch):
        monkeypatch.setenv("FASTMLP_CIFAR10_URL", "http://127.0.0.1:9/cifar-10-binary.tar.gz")
        with pytest.raises(DataError, match=r"CIFAR-10 could not be downloaded \(127\.0\.0\.1: cannot be reached\)"):
            load("cifar10")
