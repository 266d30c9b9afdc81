"""The feature store: killed at every moment, shared, damaged, on a full disk; and what its key must distinguish."""

import errno
import itertools
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save

from fastmlp.common.errors import DataError, FastMLPError, UsageError
from fastmlp.common.files import sha256_of
from fastmlp.extractors.pixels import Pixels
from fastmlp.features import extraction
from fastmlp.features.extraction import Extraction, extract_shard
from fastmlp.features.store import FORMAT, KEYS, key_of, open_or_extract, open_store

# Extractions in processes of their own, some of which kill themselves.
SCRIPT = """
import itertools, os, signal, sys, time
from pathlib import Path
import numpy as np
from fastmlp.features import extraction, store as feature_store
from fastmlp.extractors.pixels import Pixels

extraction.SHARD_BATCHES = 1

class Slow(Pixels):
    batch_size = 3
    def __init__(self, log, seconds):
        self.log, self.seconds = log, seconds
    def __call__(self, images):
        time.sleep(self.seconds)
        with open(self.log, "ab") as log:
            log.write(b".")
        return super().__call__(images)

def extract(root, log, count, seconds):
    images = np.random.default_rng(0).integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
    store = feature_store.open_or_extract(images, np.arange(count), Slow(log, seconds), {"dataset": "slow"}, Path(root))
    print("reused" if store.reused else "extracted", flush=True)

def extract_and_die(root, log, count, fatal):
    # every file that is opened, made, renamed or removed, and every batch, is an event
    events = itertools.count()
    def watch(event, _):
        if event in ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod") and next(events) == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(watch)
    extract(root, log, count, 0)

def die_everywhere(folder, count):
    for fatal in itertools.count():
        child = os.fork()
        if not child:
            extract_and_die(f"{folder}/{fatal}", f"{folder}/{fatal}.log", count, fatal)
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != -signal.SIGKILL:
            return
"""


def start(call: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT + call]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    output, log = process.communicate(timeout=120)
    assert process.returncode == 0, log
    return output, log


def wait_until(reached, seconds=60):
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.001)


class Counted(Pixels):
    """Pixels in small batches, its calls counted; call `fail_at` raises `error`."""

    batch_size = 3

    def __init__(self, fail_at=None, error=KeyboardInterrupt):
        self.calls, self.fail_at, self.error = 0, fail_at, error

    def __call__(self, images):
        self.calls += 1
        if self.calls == self.fail_at:
            raise self.error
        return super().__call__(images)


COUNT = 20
BATCHES = 7
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 3, 32, 32), dtype=np.uint8)
LABELS = np.arange(COUNT)
PROVENANCE = {"dataset": "slow"}


def extract(root, extractor=None, images=IMAGES, labels=LABELS):
    return open_or_extract(images, labels, extractor or Counted(), PROVENANCE, root)


def contents(root):
    """Every file under root with its bytes, except the empty lock that a killed process may leave behind."""
    files = (path for path in root.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


@pytest.fixture(scope="module", autouse=True)
def shards_of_one_batch():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extraction, "SHARD_BATCHES", 1)
        yield


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    root = tmp_path_factory.mktemp("unbroken")
    extract(root)
    assert not list(root.glob("*.lock"))
    return contents(root)


# What is stored.


def test_a_store_holds_the_features_and_says_whether_it_was_reused(tmp_path):
    first = extract(tmp_path)
    assert not first.reused
    assert np.array_equal(first.features, Pixels()(IMAGES))
    assert np.array_equal(first.labels, LABELS)
    assert (first.features.dtype, first.labels.dtype) == (np.float32, np.int64)
    assert first.provenance == {**PROVENANCE, "extractor": {"name": "pixels"}}
    assert first.path == tmp_path / key_of(first.provenance)
    extractor = Counted()
    again = extract(tmp_path, extractor)
    assert again.reused
    assert extractor.calls == 0
    assert np.array_equal(again.features, first.features)


def test_keys_are_what_they_were_from_the_first():
    """A change of keys loses people's stores: it needs a reason and a new number."""
    provenance = {"dataset": "cifar10", "split": "test", "augmentation": None, "extractor": {"name": "resnet18"}}
    assert (KEYS, key_of(provenance)) == (1, "cifar10-test-resnet18-9a02f2775532bd90")


class Drawn(Counted):
    """Gives the features it was made with."""

    def __init__(self, rows):
        super().__init__()
        self.rows, self.features = iter(rows), rows.shape[1]

    def __call__(self, images):
        return np.stack([next(self.rows) for _ in images])


@given(
    count=st.integers(1, 10),
    width=st.integers(1, 5),
    labelled=st.sampled_from(["int64", "int32", "uint8"]),
    draw=st.data(),
)
def test_what_goes_in_comes_out(tmp_path_factory, count, width, labelled, draw):
    floats = st.lists(st.floats(width=32), min_size=width, max_size=width)
    rows = np.array(draw.draw(st.lists(floats, min_size=count, max_size=count)), np.float32)
    bounds = np.iinfo(labelled)
    integers = st.integers(int(bounds.min), int(bounds.max))
    labels = np.array(draw.draw(st.lists(integers, min_size=count, max_size=count)), labelled)
    store = extract(tmp_path_factory.mktemp("store"), Drawn(rows), IMAGES[:count], labels)
    assert store.features.tobytes() == rows.tobytes()
    assert store.labels.dtype == np.int64
    assert np.array_equal(store.labels, labels)


@pytest.mark.parametrize("labels", [LABELS[:-1], LABELS[:, None], LABELS.astype(float)])
def test_labels_that_are_not_one_integer_per_image_are_refused(labels, tmp_path):
    with pytest.raises(UsageError, match="one integer per image"):
        extract(tmp_path, labels=labels)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("wrong", [np.zeros((3, 5), np.float32), np.zeros((3, 3072)), np.zeros(3072, np.float32)])
def test_an_extractor_that_breaks_its_word_is_named(wrong, tmp_path, monkeypatch):
    monkeypatch.setattr(Pixels, "__call__", lambda *_: wrong)
    with pytest.raises(FastMLPError, match="pixels gives"):
        extract(tmp_path)


# The key.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
PROVENANCES = st.dictionaries(
    st.text(max_size=7).filter(lambda name: name not in ("format", "extractor")), JSON, max_size=4
)


def typed(value):
    """The value with its types, because in Python True == 1."""
    if isinstance(value, dict):
        return {name: typed(inner) for name, inner in value.items()}
    return [typed(inner) for inner in value] if isinstance(value, list) else (type(value), value)


@given(PROVENANCES, PROVENANCES)
def test_different_content_has_different_keys(one, other):
    extractor = {"name": "pixels"}
    keys = [key_of({**content, "extractor": extractor}) for content in (one, other)]
    assert (keys[0] == keys[1]) == (typed(one) == typed(other))


@given(PROVENANCES, st.text(max_size=300), st.randoms(use_true_random=False))
def test_keys_do_not_depend_on_order_and_are_names_of_files(content, name, random):
    content = {**content, "dataset": name, "split": name, "extractor": {"name": name, "size": 1}}
    names = list(content)
    random.shuffle(names)
    shuffled = {name: content[name] for name in names} | {"extractor": {"size": 1, "name": name}}
    assert key_of(content) == key_of(shuffled)
    assert len(os.fsencode(key_of(content))) < 200
    assert set(key_of(content)) <= set("-_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


@pytest.mark.parametrize("content", [{"format": 1}, {"factor": float("nan")}])
def test_a_provenance_that_cannot_be_told_apart_is_refused(content):
    with pytest.raises(ValueError, match=r"format|JSON"):
        key_of({**content, "extractor": {"name": "pixels"}})


# Killed, interrupted, side by side.


@pytest.mark.slow
def test_killed_at_every_event_it_ends_with_the_same_bytes(tmp_path, unbroken):
    finish(start(f"die_everywhere({str(tmp_path)!r}, {COUNT})"))
    roots = sorted((path for path in tmp_path.iterdir() if path.is_dir()), key=lambda path: int(path.name))
    assert len(roots) > 30
    redone = []
    for root in roots:
        log = Path(f"{root}.log")
        extractor = Counted()
        extract(root, extractor)
        assert contents(root) == unbroken, f"killed at event {root.name}"
        redone.append((len(log.read_bytes()) if log.exists() else 0) + extractor.calls - BATCHES)
    assert set(redone) == {0, 1}, "no more than the shard that was not yet written"


@pytest.mark.slow
def test_killed_at_random_again_and_again_it_ends_with_the_same_bytes(tmp_path, rng, unbroken):
    root, log = tmp_path / "root", tmp_path / "log"
    batches, kills = 40, 6
    call = f"extract({str(root)!r}, {str(log)!r}, {3 * batches}, 0.01)"
    log.touch()
    for _ in range(kills):
        process = start(call)
        target = log.stat().st_size + int(rng.integers(1, 6))
        wait_until(lambda: log.stat().st_size >= target)  # noqa: B023
        time.sleep(rng.uniform(0, 0.01))
        process.kill()
        process.communicate()
    _, said = finish(start(call))
    assert "Resuming" in said
    assert batches <= log.stat().st_size <= batches + kills
    finish(start(f"extract({str(tmp_path / 'other')!r}, {str(log)!r}, {3 * batches}, 0)"))
    assert contents(root) == contents(tmp_path / "other")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_extraction_leaves_the_shards_it_wrote(error, tmp_path, unbroken):
    with pytest.raises(error):
        extract(tmp_path, Counted(fail_at=5, error=error))
    assert len(list(tmp_path.glob("*.partial/rows-*"))) == 4
    extractor = Counted()
    assert not extract(tmp_path, extractor).reused
    assert extractor.calls == BATCHES - 4
    assert contents(tmp_path) == unbroken


def test_a_second_process_waits_for_the_first_and_takes_what_it_made(tmp_path):
    call = f"extract({str(tmp_path / 'root')!r}, {str(tmp_path / 'log')!r}, 60, 0.15)"
    first = start(call)
    wait_until((tmp_path / "log").exists)
    second = start(call)
    assert finish(first)[0] == "extracted\n"
    output, said = finish(second)
    assert output == "reused\n"
    assert "Another process is extracting" in said
    assert (tmp_path / "log").stat().st_size == 20


def test_a_second_process_resumes_where_the_first_was_killed(tmp_path):
    call = f"extract({str(tmp_path / 'root')!r}, {str(tmp_path / 'log')!r}, 60, 0.15)"
    first = start(call)
    wait_until((tmp_path / "log").exists)
    second = start(call)
    assert second.stderr is not None
    assert "Another process" in second.stderr.readline()
    first.kill()
    first.communicate()
    output, said = finish(second)
    assert output == "extracted\n"
    assert "Resuming" in said
    assert (tmp_path / "log").stat().st_size <= 21


# Partial stores that cannot be used.


def partial_of(root):
    with pytest.raises(KeyboardInterrupt):
        extract(root, Counted(fail_at=5))
    (partial,) = root.glob("*.partial")
    return partial


def of_another_width(shard):
    rows = load(shard)
    return save({**rows, "features": rows["features"][:, :-1]})


def of_other_labels(shard):
    rows = load(shard)
    return save({**rows, "labels": rows["labels"] + 1})


DAMAGED = {
    "empty": lambda shard: b"",
    "short": lambda shard: shard[:-1],
    "long": lambda shard: shard + b"1",
    "another width": of_another_width,
    "other labels": of_other_labels,
    "fewer rows": lambda shard: save({name: rows[:-1] for name, rows in load(shard).items()}),
    "float64": lambda shard: save({**load(shard), "features": load(shard)["features"].astype(np.float64)}),
    "no labels": lambda shard: save({"features": load(shard)["features"]}),
    "not safetensors": lambda shard: b"\xff" * len(shard),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_shard_that_does_not_fit_is_extracted_again(damage, tmp_path, unbroken):
    shard = sorted(partial_of(tmp_path).glob("rows-*"))[1]
    shard.write_bytes(DAMAGED[damage](shard.read_bytes()))
    extractor = Counted()
    extract(tmp_path, extractor)
    assert extractor.calls == BATCHES - 4 + 1
    assert contents(tmp_path) == unbroken


@pytest.mark.parametrize("lost", range(4))
def test_what_is_missing_is_the_shards_that_are_not_there(lost, tmp_path, unbroken):
    sorted(partial_of(tmp_path).glob("rows-*"))[lost].unlink()
    extractor = Counted()
    extract(tmp_path, extractor)
    assert extractor.calls == BATCHES - 4 + 1
    assert contents(tmp_path) == unbroken


def test_what_an_earlier_version_left_behind_is_no_part_of_the_store(tmp_path, unbroken):
    partial = partial_of(tmp_path)
    (partial / "journal.json").write_text('{"rows": 8}')
    (partial / "features.npy").write_bytes(bytes(400))
    (partial / "folder").mkdir()
    extract(tmp_path)
    assert contents(tmp_path) == unbroken


@pytest.mark.parametrize("batches", [1, 2, 3, 100])
def test_the_features_are_the_same_in_shards_of_any_size(batches, tmp_path, monkeypatch):
    monkeypatch.setattr(extraction, "SHARD_BATCHES", batches)
    store = extract(tmp_path)
    assert len(store.shards) == -(-BATCHES // batches)
    assert np.array_equal(store.features, Pixels()(IMAGES))
    assert np.array_equal(store.labels, LABELS)


def test_a_shard_of_wide_features_is_of_fewer_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(extraction, "SHARD_BATCHES", 100)
    monkeypatch.setattr(extraction, "SHARD_BYTES", 7 * 3072 * 4)
    assert len(extract(tmp_path).shards) == COUNT // 6 + 1


def test_a_shard_by_itself_is_the_one_that_a_whole_extraction_writes(tmp_path, unbroken):
    apart = Extraction(IMAGES, LABELS, Counted(), tmp_path)
    for shard in reversed(apart.shards()):
        extract_shard(apart, shard)
    written = {Path(name).name: content for name, content in unbroken.items() if not name.endswith(".json")}
    assert contents(tmp_path) == written


# Disks that are full or locked.


def test_a_file_system_that_takes_no_more_leaves_nothing_that_looks_whole(tmp_path, unbroken):
    """A real limit on file sizes, which fails like a full disk: in the middle of a write."""
    resource = pytest.importorskip("resource")
    root, log, enough = tmp_path / "root", tmp_path / "log", 30_000
    call = f"extract({str(root)!r}, {str(log)!r}, {COUNT}, 0)"
    limit = f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({enough}, {enough}))\n"
    limit += "sys.dont_write_bytecode = True\n"  # Python would take what is cut of that for whole
    process = start(limit + call)
    _, said = process.communicate(timeout=60)
    last = said.strip().splitlines()[-1]
    assert "FastMLPError: The features cannot be written under" in last
    assert os.strerror(errno.EFBIG) in last
    assert "FASTMLP_CACHE_DIR" in last
    assert not any(path.is_dir() and path.suffix != ".partial" for path in root.iterdir())
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != enough
    extractor = Counted()
    assert not extract(root, extractor).reused
    assert extractor.calls == BATCHES, "half a shard is none"
    assert contents(root) == unbroken


@pytest.mark.parametrize(("owner", "function", "times"), [(os, "fsync", BATCHES + 2), (Path, "replace", BATCHES + 3)])
def test_a_disk_found_full_at_any_step_is_named(owner, function, times, tmp_path, monkeypatch, unbroken):
    real = getattr(owner, function)
    for full_at in range(times):
        steps, root = itertools.count(), tmp_path / str(full_at)

        def fails_once(*arguments, steps=steps, full_at=full_at):
            if next(steps) == full_at:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(owner, function, fails_once)
            with pytest.raises(FastMLPError, match="No space left") as caught:
                extract(root)
        assert caught.value.exit_code == 1
        assert not [path for path in root.iterdir() if path.suffix == ""]
        extract(root)
        assert contents(root) == unbroken


def test_a_root_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FastMLPError, match=r"cannot be written under .*file .*FASTMLP_CACHE_DIR"):
        extract(tmp_path / "file")


# Damaged stores.


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return extract(tmp_path_factory.mktemp("store")).path


@pytest.fixture
def damaged(store):
    """The store's folder, restored after the test."""
    kept = {path: path.read_bytes() for path in store.iterdir()}
    yield store
    for path, content in kept.items():
        path.write_bytes(content)


def assert_refused(path, said):
    """Whether opened by its path or by its content, it is refused, with the fix."""
    for refused in (lambda: open_store(path), lambda: extract(path.parent)):
        with pytest.raises(DataError, match=said) as caught:
            refused()
        assert f"delete the folder {path} and extract again" in str(caught.value)


FIRST, LAST = "rows-0000000000-0000000003.safetensors", "rows-0000000018-0000000020.safetensors"


@pytest.mark.parametrize("name", [FIRST, LAST, "manifest.json", "store.json"])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "missing"])
def test_damage_is_named_with_its_fix(name, damage, damaged):
    file = damaged / name
    whole = file.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 4]) + whole[middle + 1 :]
    content = {"flipped": flipped, "truncated": whole[:-9], "empty": b""}.get(damage)
    file.unlink() if content is None else file.write_bytes(content)
    assert_refused(damaged, "missing or damaged")


@pytest.mark.parametrize(
    "text", ["[]", "null", "{}", "1", '{"format": 1}', '{"format": 1, "sha256": 5}', '{"format": 2}', "[" * 5000]
)
def test_json_that_is_no_store_is_refused(text, damaged):
    (damaged / "store.json").write_text(text)
    assert_refused(damaged, r"store\.json is missing or damaged")


def rewritten(path, **changes):
    meta = json.loads((path / "store.json").read_text())
    (path / "store.json").write_text(json.dumps({**meta, **changes}))


def test_a_format_from_the_future_is_refused(damaged):
    rewritten(damaged, format=FORMAT + 1)
    assert_refused(damaged, f"format {FORMAT + 1}, not {FORMAT}")


LISTS = {
    "nothing": lambda shards: None,
    "none": lambda shards: [],
    "a gap": lambda shards: shards[1:],
    "another order": lambda shards: shards[::-1],
    "elsewhere": lambda shards: [{**shards[0], "name": f"../store/{FIRST}"}, *shards[1:]],
    "words": lambda shards: [{**shards[0], "rows": "3"}, *shards[1:]],
    "no rows": lambda shards: [{**shards[0], "rows": 0}, *shards[1:]],
    "more": lambda shards: [{**shards[0], "further": 1}, *shards[1:]],
}


@pytest.mark.parametrize("change", LISTS)
def test_a_manifest_that_does_not_list_all_rows_is_refused(change, damaged):
    manifest = json.loads((damaged / "manifest.json").read_text())
    (damaged / "manifest.json").write_text(json.dumps({**manifest, "shards": LISTS[change](manifest["shards"])}))
    rewritten(damaged, sha256={"manifest.json": sha256_of(damaged / "manifest.json")})
    assert_refused(damaged, r"manifest\.json is missing or damaged")


@pytest.mark.parametrize("provenance", [None, [], {}, {"extractor": 5}, {"extractor": {"name": "patches"}}])
def test_another_provenance_is_refused(provenance, damaged):
    rewritten(damaged, provenance=provenance)
    assert_refused(damaged, "missing or damaged")


def test_a_store_of_other_data_is_not_taken_for_the_one_asked_for(store):
    with pytest.raises(DataError, match="made from other data"):
        open_store(store, {**PROVENANCE, "split": "test", "extractor": {"name": "pixels"}})


def test_an_empty_folder_is_no_store(tmp_path):
    path = tmp_path / key_of({**PROVENANCE, "extractor": {"name": "pixels"}})
    path.mkdir()
    assert_refused(path, "missing or damaged")


@pytest.mark.parametrize("name", [FIRST, LAST, "manifest.json", "store.json"])
@given(draw=st.data())
def test_random_bytes_anywhere_are_noticed_or_change_nothing(name, draw, store):
    file, whole = store / name, open_store(store)
    before = file.read_bytes()
    place = draw.draw(st.integers(0, len(before)))
    written = draw.draw(st.binary(min_size=1, max_size=20))
    cut = draw.draw(st.booleans())
    after = before[:place] + written + (b"" if cut else before[place + len(written) :])
    expected = (whole.features.tobytes(), whole.labels.tobytes(), whole.provenance)
    file.write_bytes(after)
    try:
        found = open_store(store)
        assert (found.features.tobytes(), found.labels.tobytes(), found.provenance) == expected
        assert name == "store.json" or after == before
    except DataError:
        assert after != before
    finally:
        file.write_bytes(before)


# Stores of the first format.


@pytest.fixture
def first_format(tmp_path):
    """A store as the first version wrote it."""
    provenance = {**PROVENANCE, "extractor": {"name": "pixels"}}
    path = tmp_path / key_of(provenance)
    path.mkdir()
    np.save(path / "features.npy", Pixels()(IMAGES))
    np.save(path / "labels.npy", LABELS.astype(np.int64))
    sums = {name: sha256_of(path / name) for name in ("features.npy", "labels.npy")}
    (path / "store.json").write_text(json.dumps({"format": 1, "provenance": provenance, "sha256": sums}))
    return path


def test_a_store_of_the_first_format_is_still_read(first_format):
    extractor = Counted()
    store = extract(first_format.parent, extractor)
    assert extractor.calls == 0
    assert isinstance(store.features, np.memmap)
    assert np.array_equal(store.features, Pixels()(IMAGES))
    assert np.array_equal(store.labels, LABELS)


@pytest.mark.parametrize("name", ["features.npy", "labels.npy"])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "missing"])
def test_damage_of_the_first_format_is_named_with_its_fix(name, damage, first_format):
    file = first_format / name
    whole = file.read_bytes()
    content = {"flipped": whole[:-1] + bytes([whole[-1] ^ 4]), "truncated": whole[:-9], "empty": b""}.get(damage)
    file.unlink() if content is None else file.write_bytes(content)
    assert_refused(first_format, "missing or damaged")
