"""Networks on a few rows of noise compile all kernels that those on the real rows need."""

import numpy as np
import pytest

from fastmlp.backends.numpy import NumpyBackend
from fastmlp.kernels.cuda.driver import Program
from fastmlp.testing.emulated import EmulatedBackend
from fastmlp.training.loop import train_together
from fastmlp.training.member import Blueprint
from fastmlp.training.recipe import PRESETS
from fastmlp.training.samples import Samples
from fastmlp.training.warm_up import warm_up

ROWS = 70


@pytest.mark.parametrize(
    "sizes", [pytest.param((24, 16, 5), id="fused epochs"), pytest.param((24, 16, 12, 5), id="fused steps")]
)
def test_nothing_is_left_to_be_compiled(
    emulated: EmulatedBackend, sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: set[Program] = set()
    load = emulated.driver.load

    def noted(program: Program) -> object:
        loaded.add(program)
        return load(program)

    monkeypatch.setattr(emulated.driver, "load", noted)
    blueprint = Blueprint(sizes, PRESETS["paper"].changed(batch_size=16), 0, "float32")
    warm_up(blueprint, 2, ROWS, emulated)
    warm = frozenset(loaded)
    assert warm

    recipe = blueprint.recipe.changed(epochs=2)
    rng = np.random.default_rng(1)
    features, labels = rng.standard_normal((ROWS, sizes[0]), dtype=np.float32), rng.integers(0, sizes[-1], ROWS)
    samples = Samples.place(emulated, features, labels, "float32")
    networks = [blueprint.network(emulated) for _ in range(2)]
    train_together(networks, samples, [recipe] * 2, [0, 0], rows=[40, ROWS], test=samples)
    assert loaded == warm


def test_what_diverges_on_noise_need_not_do_so_on_the_data() -> None:
    diverging = PRESETS["paper"].changed(batch_size=16, learning_rate=1e30)
    warm_up(Blueprint((24, 16, 5), diverging, 0, "float32"), 1, ROWS, NumpyBackend())
