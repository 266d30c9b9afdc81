"""The emulated GPU finds what a real one would get wrong without a word, and lets right kernels pass."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

BLOCK = (64,)


@pytest.fixture
def launch(emulated):
    """launch(kernel, *arguments, grid=1, ...) of tests/faulty.cu."""
    from fastmlp.kernels.cuda.driver import Program

    def run(kernel, *arguments, grid=1, options=(), shared_memory=1024, **program):
        found = Program(str(Path(__file__).parent / "faulty.cu"), kernel, options, shared_memory, **program)
        emulated.driver.load(found)((grid,), BLOCK, arguments)

    return run


@pytest.fixture
def out(emulated):
    return emulated.empty((64,), "float32")


@pytest.mark.parametrize(
    ("fault", "line"), [(1, "other[t] = shared[t] = in["), (2, "out[t] = shared["), (3, "if (fault == 3) out[")]
)
def test_what_lies_outside_of_an_array_is_not_touched_emulated(emulated, launch, out, fault, line):
    numbers = emulated.asarray(np.arange(64, dtype="f4"))
    launch("neighbour", numbers, out, np.int32(0))
    np.testing.assert_array_equal(out, np.roll(numbers, -1))
    with pytest.raises(RuntimeError, match=re.escape(f"use-after-poison at `{line}")):
        launch("neighbour", numbers, out, np.int32(fault))
    # a sanitizer that cannot make its own file ends the process
    assert not Path(f"/dev/null.{os.getpid()}").exists()


def test_a_line_is_told_of_each_time_whichever_library_it_is_in_emulated(emulated, launch, out):
    numbers = emulated.asarray(np.arange(64, dtype="f4"))
    for options in ((), ("-DIN_ANOTHER_LIBRARY=1",), ()):
        with pytest.raises(RuntimeError, match=re.escape("use-after-poison at `if (fault == 3) out[")):
            launch("neighbour", numbers, out, np.int32(3), options=options)


@pytest.mark.parametrize("fault", [1, 2])
def test_copies_stay_inside_of_arrays_emulated(emulated, launch, out, fault):
    numbers = emulated.asarray(np.arange(64, dtype="f4"))
    launch("fetch", numbers, out, np.int32(0))
    np.testing.assert_array_equal(out, numbers)
    with pytest.raises(RuntimeError, match="use-after-poison in a copy"):
        launch("fetch", numbers, out, np.int32(fault))


@pytest.mark.parametrize(("fault", "message"), [(1, "misaligned-pointer-use"), (2, "a crash")])
def test_undefined_behaviour_and_crashes_end_the_launch_not_the_process_emulated(emulated, launch, out, fault, message):
    numbers = emulated.asarray(np.arange(64, dtype="f4"))
    launch("stray", numbers, out, np.int32(0))
    with pytest.raises(RuntimeError, match=message):
        launch("stray", numbers, out, np.int32(fault))
    launch("stray", numbers, out, np.int32(0))
    np.testing.assert_array_equal(out[4:], numbers[4:])


@pytest.mark.parametrize(("fault", "message"), [(1, "deadlock"), (2, "different barriers")])
def test_threads_that_do_not_meet_are_found_emulated(launch, out, fault, message):
    launch("meet", out, np.int32(0))
    with pytest.raises(RuntimeError, match=message):
        launch("meet", out, np.int32(fault))


def test_shared_memory_that_is_not_set_is_nan_emulated(launch, out):
    launch("forgotten", out, np.int32(0))
    assert (out == 1).all()
    launch("forgotten", out, np.int32(1))
    assert np.isnan(out).any()
    with pytest.raises(RuntimeError, match="race"):
        launch("forgotten", out, np.int32(2))


@pytest.mark.parametrize("fault", range(1, 7))
def test_a_number_reaches_another_block_by_fence_and_flag_only_emulated(emulated, launch, fault):
    def publish(fault):
        number, out = emulated.asarray(np.zeros(1, "f4")), emulated.empty((1,), "float32")
        flag = emulated.asarray(np.zeros(1, np.uint32))
        launch("publish", number, flag, out, np.int32(fault), grid=2, cooperative=True)
        return out[0]

    assert publish(0) == 1
    with pytest.raises(RuntimeError, match=r"race: `.*` (reads|writes) what `.*` (wrote|read), by thread"):
        publish(fault)


@pytest.mark.parametrize("fault", [1, 2, 3, 5])
def test_lanes_see_one_anothers_numbers_after_a_barrier_only_emulated(emulated, launch, out, fault):
    numbers = emulated.asarray(np.arange(64, dtype="f4"))
    for right in (0, 4):
        launch("neighbours", numbers, out, np.int32(right))
        np.testing.assert_array_equal(out, np.arange(64) ^ 1)
    with pytest.raises(RuntimeError, match="race"):
        launch("neighbours", numbers, out, np.int32(fault))


@pytest.mark.parametrize("fault", [1, 2])
def test_one_number_is_written_by_one_thread_emulated(launch, out, fault):
    launch("everyone_writes", out, np.int32(0), grid=2)
    with pytest.raises(RuntimeError, match=r"race: `out\[place\] = 1;` writes what `out\[place\] = 1;` wrote"):
        launch("everyone_writes", out, np.int32(fault), grid=2)


def test_memory_of_the_device_starts_as_nan_emulated(emulated):
    assert np.isnan(emulated.empty((3,), "float32")).all()
    assert (emulated.empty((3,), "int64") == -1).all()


def test_shared_memory_beyond_the_launch_is_refused_emulated(launch, out):
    launch("large", out, np.int32(256))
    with pytest.raises(RuntimeError, match="takes more shared memory than its launch gives it: 1028 of 1024"):
        launch("large", out, np.int32(257))


def test_a_poll_for_a_block_that_never_comes_is_a_deadlock_emulated(emulated, launch):
    arrived = emulated.asarray(np.zeros(1, np.uint32))
    launch("poll", arrived, np.int32(0), grid=5, cooperative=True)
    assert arrived[0] == 5
    with pytest.raises(RuntimeError, match="deadlock"):
        launch("poll", arrived, np.int32(6), grid=5, cooperative=True)


def test_blocks_of_a_plain_launch_do_not_run_at_once_emulated(emulated, launch):
    with pytest.raises(RuntimeError, match="deadlock"):
        launch("poll", emulated.asarray(np.zeros(1, np.uint32)), np.int32(0), grid=5)


def test_blocks_that_wait_for_one_another_must_fit_the_device_emulated(emulated, launch):
    arrived = emulated.asarray(np.zeros(1, np.uint32))
    with pytest.raises(RuntimeError, match="do not run at once"):
        launch("poll", arrived, np.int32(0), grid=133, cooperative=True, shared_memory=200_000)


def test_a_grid_of_too_many_rows_of_blocks_is_refused_emulated(emulated):
    """As a GPU does, whose first dimension alone has room for more."""
    from fastmlp.kernels.cuda.driver import MOST_ACROSS, LaunchRefusedError, Program

    program = Program(str(Path(__file__).parent / "faulty.cu"), "poll", (), 1024)
    arguments = emulated.asarray(np.ones(1, np.uint32)), np.int32(0)
    with pytest.raises(LaunchRefusedError, match="65536"):
        emulated.driver.load(program)((1, MOST_ACROSS + 1), BLOCK, arguments)


def test_messages_in_a_cluster_arrive_where_they_are_waited_for_emulated(emulated, launch):
    both = emulated.empty((128,), "float32")
    launch("swap", both, np.int32(0), grid=2, cluster=2)
    np.testing.assert_array_equal(both, np.r_[100:164, 0:64])
    with pytest.raises(RuntimeError, match="deadlock"):
        launch("swap", both, np.int32(1), grid=2, cluster=2)
    with pytest.raises(RuntimeError, match=r"race: .*a message"):
        launch("swap", both, np.int32(2), grid=2, cluster=2)
    with pytest.raises(RuntimeError, match="ends before the whole cluster has met"):
        launch("swap", both, np.int32(3), grid=2, cluster=2)
    with pytest.raises(RuntimeError, match="a mailbox"):
        launch("swap", both, np.int32(4), grid=2, cluster=2)
    with pytest.raises(RuntimeError, match=r"not sent as many bytes as it expects|to a block that had ended"):
        launch("swap", both, np.int32(5), grid=2, cluster=2)


def test_a_shuffle_brings_every_lanes_number_emulated(launch, out):
    launch("sum_of_warp", out)
    np.testing.assert_array_equal(out, np.repeat([np.arange(32).sum(), np.arange(32, 64).sum()], 32))


WRONG = {
    "too few": ((np.zeros(64, "f4"),), "takes 2 arguments, not 1"),
    "another type of number": ((np.zeros(64, "f4"), np.int64(0)), "argument 1 of meet must be int32"),
    "another order": ((np.int32(0), np.zeros(64, "f4")), r"argument 0 of meet must be float32\*"),
    "another dtype": ((np.zeros(64), np.int32(0)), r"must be float32\*, not ndarray of float64"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_arguments_that_do_not_fit_are_refused_emulated(launch, wrong):
    arguments, message = WRONG[wrong]
    with pytest.raises(TypeError, match=message):
        launch("meet", *arguments)


def test_kernels_of_one_name_have_types_of_their_own_emulated(emulated):
    for dtype in ("float32", "int64", "float64"):
        source = emulated.asarray(np.arange(6).reshape(3, 2).astype(dtype))
        out = emulated.empty((2, 2), dtype)
        emulated.network_ops.gather(source, emulated.asarray(np.array([2, 0])), out)
        np.testing.assert_array_equal(out, source[[2, 0]])


def test_an_array_with_gaps_is_refused_emulated(launch):
    with pytest.raises(RuntimeError, match="gaps"):
        launch("meet", np.zeros((64, 2), "f4")[:, 0], np.int32(0))


def test_a_read_only_array_is_not_written_to_emulated(launch, out):
    out.flags.writeable = False
    with pytest.raises(TypeError, match="read-only"):
        launch("meet", out, np.int32(0))


def mapped_megabytes():
    (kilobytes,) = re.findall(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes) / 1024


def test_the_stacks_of_a_large_launch_are_given_back_emulated(launch, out):
    """Every search for races copies what its process has mapped."""
    launch("rest", np.int32(0), grid=2, cooperative=True)
    before = mapped_megabytes()
    launch("rest", np.int32(0), grid=40, cooperative=True)
    assert mapped_megabytes() < before + 40  # for 80
