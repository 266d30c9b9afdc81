"""A GPU's ways to train, as a measurement ranks them: what is kept, what it holds for, and who goes by it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fastmlp.backends import cuda_ranking
from fastmlp.backends.cuda_ranking import Ranking
from fastmlp.backends.cupy import FUSED_STEPS, OP_BY_OP
from fastmlp.common.errors import BackendError, DataError
from fastmlp.kernels import EpochKind
from fastmlp.kernels.cuda.driver import Device
from fastmlp.kernels.cuda.emulation import H100, EmulatedDriver
from fastmlp.kernels.cuda.fused_epoch import FusedEpoch
from fastmlp.kernels.cuda.layout import LAYOUTS, UNMEASURED
from fastmlp.kernels.cuda.one_block import ONE_BLOCK
from fastmlp.network.optimizers import SGD, make_optimizer
from fastmlp.network.parameters import initial_parameters
from fastmlp.network.tiers import Tier, choose_tier
from fastmlp.network.trainer import Trainer
from fastmlp.testing.emulated import SMALLEST, EmulatedBackend

SIZES = (512, 64, 10)
KIND = EpochKind(SIZES, "float32", 64, SGD())
SPECIALISED = f"layout {UNMEASURED[0]}"

pytestmark = pytest.mark.usefixtures("own_folders", "can_emulate")


def ranked(*ways, kind=KIND, device=H100):
    """A backend that finds these ways measured, the fastest first."""
    Ranking(device).keep(kind, [{"way": way, "us": 3.0 + place} for place, way in enumerate(ways)])
    return EmulatedBackend(EmulatedDriver(device))


def bound(backend, **options):
    return Trainer(initial_parameters(options.pop("sizes", SIZES)), backend, options.pop("batch_size", 64), **options)


def test_without_a_measurement_nothing_is_confined():
    backend = EmulatedBackend()
    assert backend.fastest(KIND) is backend
    assert backend.by_way("", KIND) is backend
    assert bound(backend).backend is backend
    assert "way" not in bound(backend).tier.as_dict()


@pytest.mark.parametrize("layout", [*UNMEASURED, LAYOUTS[-1], ONE_BLOCK], ids=str)
def test_the_fastest_layout_trains(layout, monkeypatch):
    launched = []

    def launch(self, layout, *_):
        launched.append(layout)
        return [(1.0, 2)]

    monkeypatch.setattr(FusedEpoch, "_launch", launch)
    trainer = bound(ranked(f"layout {layout}", f"layout {LAYOUTS[0]}"))
    assert trainer.tier.as_dict()["way"] == f"layout {layout}"
    assert f"layout {layout} trains this network a whole epoch" in trainer.tier.reason
    features, labels = np.zeros((64, 512), "f4"), np.zeros(64, np.int64)
    assert trainer.train_epoch(features, labels, np.arange(64), np.ones(1)) == (1 / 64, 2 / 64)
    assert launched == [layout]


@pytest.mark.parametrize(("way", "fused"), [(FUSED_STEPS, True), (OP_BY_OP, False)])
def test_steps_are_taken_where_they_are_fastest(way, fused):
    trainer = bound(ranked(way, SPECIALISED))
    assert trainer.tier.tier == Tier.FUSED_OPS
    assert f"it trains by {way}" in trainer.tier.reason
    assert trainer.tier.way == way
    assert (trainer.backend.fused_steps([trainer.task()], [0]) is not None) is fused


def test_a_tier_that_is_asked_for_is_as_without_a_measurement():
    backend = ranked(OP_BY_OP)
    trainer = bound(backend, tier=Tier.FUSED_EPOCH)
    assert (trainer.tier.tier, trainer.backend.way) == (Tier.FUSED_EPOCH, "")
    assert bound(backend, tier=Tier.FUSED_OPS).backend.fused_steps([trainer.task()], [0]) is not None


@pytest.mark.parametrize(
    ("options", "applies"),
    [
        ({}, True),
        ({"weighted": True, "smoothing": 0.1}, True),
        ({"optimizer": SGD(weight_decay=0.1)}, True),
        ({"networks": 2}, False),
        ({"optimizer": make_optimizer("adam")}, False),
        ({"batch_size": 32}, False),
        ({"sizes": (512, 32, 10)}, False),
    ],
    ids=str,
)
def test_a_measurement_is_of_one_network_and_its_steps(options, applies):
    assert (bound(ranked(SPECIALISED), **options).backend.way == SPECIALISED) is applies


@pytest.mark.parametrize("changes", [{"dtype": "float64"}, {"activation": "tanh"}, {"output": "identity"}], ids=str)
def test_other_numbers_and_losses_are_not_measured(changes):
    backend = ranked(SPECIALISED)
    assert backend.fastest(replace(KIND, **changes)) is backend


@pytest.mark.parametrize(("networks", "measured"), [(1, 1), (2, 2), (7, 2), (8, 8), (31, 16), (63, 32), (500, 132)])
def test_a_number_of_networks_goes_by_the_largest_measured_one_below(networks, measured):
    for count in cuda_ranking.COUNTS:
        backend = ranked(SPECIALISED if count == measured else OP_BY_OP, kind=replace(KIND, networks=count))
    assert bound(backend, networks=networks).backend.way == SPECIALISED


@pytest.mark.parametrize("changes", [{"name": "H200"}, {"driver": "13010"}, {"compiler": "13.1"}], ids=str)
def test_another_gpu_driver_or_compiler_has_its_own(changes):
    ranked(SPECIALISED)
    backend = EmulatedBackend(EmulatedDriver(replace(H100, **changes)))
    assert backend.fastest(KIND) is backend


@pytest.mark.parametrize(("name", "value"), [("__version__", "0.0.0"), ("digest", lambda: "other sources")])
def test_other_kernels_are_measured_anew(name, value, monkeypatch):
    backend = ranked(SPECIALISED)
    monkeypatch.setattr(cuda_ranking, name, value)
    assert EmulatedBackend().fastest(KIND).way == ""
    assert backend.fastest(KIND).way == ""  # read at its first use


def test_a_way_that_is_wrong_is_not_taken():
    Ranking(H100).keep(KIND, [{"way": SPECIALISED, "wrong": "AssertionError: off by 3"}])
    assert EmulatedBackend().fastest(KIND).way == ""
    Ranking(H100).keep(KIND, [{"way": SPECIALISED, "wrong": "AssertionError"}, {"way": OP_BY_OP, "us": 90.0}])
    assert EmulatedBackend().fastest(KIND).way == OP_BY_OP


def test_a_confined_backend_stays_as_it_is():
    backend = ranked(SPECIALISED)
    for way in (backend.by_layout(LAYOUTS[0]), *backend.step_ways(), *backend.op_ways()):
        assert way.fastest(KIND) is way


def test_what_is_kept_says_what_it_holds_for_and_stays_beside_what_comes_later():
    ranking = Ranking(Device("NVIDIA H200", 90, 132, 232_448, "13000"))
    ranking.keep(KIND, [{"way": "slow", "us": 9.0}, {"way": "bad", "wrong": "why"}, {"way": "fast", "us": 3.5}])
    Ranking(Device("NVIDIA H200", 90, 132, 232_448, "13000")).keep(replace(KIND, networks=8), [])
    kept = json.loads(ranking.path.read_text())
    assert ranking.path.name.startswith("nvidia-h200-")
    assert {"gpu", "driver", "compiler", "fastmlp", "kernels"} <= kept.keys()
    first, second = kept["networks"].items()
    assert first[0] == "512-64-10 float32, batches of 64, sgd, 1 together"
    assert [one["way"] for one in first[1]] == ["fast", "slow", "bad"]
    assert second == ("512-64-10 float32, batches of 64, sgd, 8 together", [])


NAME = "512-64-10 float32, batches of 64, sgd, 1 together"


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"networks": [1]}']
    + [json.dumps({"networks": {NAME: value}}) for value in (3, [3], {"way": 3}, [{"us": 3.0}])],
)
def test_a_damaged_file_is_told(content):
    ranking = Ranking(H100)
    ranking.keep(KIND, [])
    ranking.path.write_text(content)
    with pytest.raises(DataError, match=r"is damaged .*: delete it"):
        bound(EmulatedBackend())


def test_a_way_of_another_version_or_a_larger_gpu_is_refused():
    for backend, way in (
        (EmulatedBackend(), "layout of old"),
        (EmulatedBackend(EmulatedDriver(SMALLEST)), SPECIALISED),
    ):
        with pytest.raises(BackendError, match=f"by {way}, as this training began: resume it on the GPU"):
            bound(backend, way=way)


def test_the_choice_is_told_once(capsys):
    backend = ranked(SPECIALISED)
    for _ in range(3):
        assert choose_tier(SIZES, "float32", backend).way == SPECIALISED
    told = f"512-64-10 trains by {SPECIALISED}, which was measured to be the fastest on this GPU."
    assert capsys.readouterr().err.count(told) == 1
