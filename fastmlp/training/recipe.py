"""How to train: a recipe's numbers, its learning-rate schedules, and the presets."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp.backends.base import Backend
from fastmlp.common.errors import UsageError
from fastmlp.network.optimizers import Optimizer, make_optimizer
from fastmlp.network.parameters import Parameters
from fastmlp.network.trainer import Trainer

SCHEDULES = ("step", "one-cycle", "cosine", "constant")
STANDARDIZE = ("none", "together", "each", "unit")
WARM_UP = 0.2  # the share of one cycle's steps in which the learning rate rises


@dataclass(frozen=True)
class Recipe:
    """How to train; the defaults are the paper's: 300 epochs, batch 64, 0.01, times 0.1 after every 100 epochs.

    schedule: "step" multiplies the learning rate by drop_factor after every drop_every epochs; "one-cycle" raises it
    from 0 to learning_rate and lowers it to 0 again, step by step, each along half a cosine (Smith and Topin 2018);
    "cosine" lowers it from learning_rate to 0 along half a cosine (Loshchilov and Hutter 2017, eq. 5, no restarts),
    once it has risen to it in a straight line over warm_up steps; "constant" keeps it. optimizer and weight_decay: see
    `network.optimizers`; momentum and nesterov are those of "momentum". standardize: before training, "each" subtracts
    each feature's mean and divides by its standard deviation; "together" subtracts each mean and divides by one spread
    for all, which suits features of one scale; "unit" divides each row by its Euclidean length; "none" leaves them.
    init: see `initial_parameters`. label_smoothing: the share of each label that is spread evenly over all classes
    (Szegedy et al. 2016, section 7); of the training alone, test losses are for the labels as they are. least_steps:
    train on few rows for more epochs, until that many steps are taken in all (`for_data`). relative_decay: unless 0,
    the weight decay for n rows of d features is that times sqrt(min(d, n)) / n^(3/4) (`for_data`). hidden_layer_sizes:
    widths, where no others are asked for. strength: C of a logistic regression, which a linear head is fitted by
    (`training.logistic`) in place of all but standardize; None: none.
    """

    epochs: int = 300
    batch_size: int = 64
    learning_rate: float = 0.01
    schedule: str = "step"
    drop_every: int = 100  # epochs
    drop_factor: float = 0.1
    warm_up: int = 0  # steps, of "cosine"
    optimizer: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 0.0
    standardize: str = "none"
    init: str = "paper"
    label_smoothing: float = 0.0
    least_steps: int = 0
    relative_decay: float = 0.0
    hidden_layer_sizes: tuple[int, ...] = (64,)
    strength: float | None = None

    def __post_init__(self) -> None:
        counts: dict[str, Any] = {"number of epochs": self.epochs, "batch size": self.batch_size}
        for name, count in counts.items():
            if not isinstance(count, Integral) or count < 1:
                raise UsageError(f"The {name} must be a whole number from 1 on, not {count!r}.")
        if not (np.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise UsageError(f"The learning rate must be a positive number, not {self.learning_rate}.")
        if self.warm_up < 0:
            raise UsageError(f"warm_up must be a whole number of steps from 0 on, not {self.warm_up!r}.")
        if self.schedule not in SCHEDULES:
            raise UsageError(f"The schedule must be one of {', '.join(SCHEDULES)}, not {self.schedule!r}.")
        if self.standardize not in STANDARDIZE:
            raise UsageError(f"standardize must be one of {', '.join(STANDARDIZE)}, not {self.standardize!r}.")
        if not 0 <= self.label_smoothing < 1:
            raise UsageError(f"The label smoothing must be a number from 0 to below 1, not {self.label_smoothing}.")
        _ = self.update_rule  # checks itself

    @property
    def update_rule(self) -> Optimizer:
        own = {"momentum": self.momentum, "nesterov": self.nesterov} if self.optimizer == "momentum" else {}
        return make_optimizer(self.optimizer, self.weight_decay, **own)

    def learning_rates(self, epoch: int, steps: int) -> NDArray[np.float64]:
        """The learning rate of each step (steps,) of an epoch; epochs count from 1."""
        if self.schedule == "one-cycle":
            done = (np.arange((epoch - 1) * steps, epoch * steps) + 0.5) / (self.epochs * steps)
            falling = 1 + (done - WARM_UP) / (1 - WARM_UP)
            angle = np.pi * np.where(done < WARM_UP, done / WARM_UP, falling)
            return self.learning_rate * (1 - np.cos(angle)) / 2
        if self.schedule == "cosine":
            return self.learning_rate * self._cosine(np.arange((epoch - 1) * steps, epoch * steps), self.epochs * steps)
        drops = (epoch - 1) // self.drop_every if self.schedule == "step" else 0
        return np.full(steps, self.learning_rate * self.drop_factor**drops)

    def _cosine(self, step: NDArray[np.int64], steps: int) -> NDArray[np.float64]:
        """The share of the learning rate in each of those steps, which count from 0, of so many in all."""
        rising = (step + 1) / max(1, self.warm_up)
        falling = (step - self.warm_up) / max(1, steps - self.warm_up)
        return np.where(step < self.warm_up, rising, (1 + np.cos(np.pi * falling)) / 2)

    def network(
        self,
        parameters: Parameters,
        backend: Backend,
        weighted: bool = False,
        networks: int = 1,
        way: str | None = None,
    ) -> Trainer:
        """A network bound to be trained so, on rows of different weights where weighted; networks, way: `Trainer`'s."""
        return Trainer(
            parameters,
            backend,
            self.batch_size,
            optimizer=self.update_rule,
            weighted=weighted,
            smoothing=self.label_smoothing,
            networks=networks,
            way=way,
        )

    def changed(self, **changes: Any) -> Recipe:
        """This recipe with some values changed; None keeps a value.

        Epochs and a weight decay that are given hold for data of any size.
        """
        given = {name: value for name, value in changes.items() if value is not None}
        least_steps = 0 if "epochs" in given else self.least_steps
        relative_decay = 0.0 if "weight_decay" in given else self.relative_decay
        return replace(self, **{"least_steps": least_steps, "relative_decay": relative_decay, **given})

    def for_data(self, rows: int, features: int, counted: int | None = None) -> Recipe:
        """This recipe with the epochs and the weight decay that it has for so many rows of so many features.

        counted: how many rows the weight decay is for, where that is another number.
        """
        known = max(1, rows if counted is None else counted)
        steps = max(1, -(-rows // self.batch_size))
        epochs = max(self.epochs, -(-self.least_steps // steps))
        if not self.relative_decay:
            return replace(self, epochs=epochs)
        decay = self.relative_decay * float(min(features, known) ** 0.5 / known**0.75)
        most = 0.5 / self.learning_rate  # no step takes more than half of a weight
        return replace(self, epochs=epochs, weight_decay=min(decay, most), relative_decay=0.0)

    def as_dict(self) -> dict[str, Any]:
        if self.strength is not None:
            return {"optimizer": "logistic", "strength": self.strength, "standardize": self.standardize}
        return {name: value for name, value in asdict(self).items() if name not in ("strength", "hidden_layer_sizes")}


# The tabular preset is for features of any scale, from a hundred rows on. It was chosen on the twenty tables of
# fastmlp.bench.tables, drawn and split from seeds 101 to 104 and 200 to 205; docs/tabular.md reports on seed 0, which
# had no say. Beside scikit-learn's MLPs:
# - the fewer rows there are for the features, the more weight decay they want: 0.08 for 20,000 rows of 20 features, 3
#   for 150 of them; less than a tenth for a moon's two. One value for all loses up to four points either way, or half
#   of the log-loss of few noisy rows. sqrt(d) / n^(3/4) follows the best value within a factor of two on most tables;
#   a power of one half of n (Loshchilov and Hutter 2019, appendix B.1, for the decay alone) leaves few rows too little;
# - 256 hidden units gain nine points over 64 on twenty classes, and four on Gaussian quantiles; 128 half of that;
# - fifty epochs do as well as a hundred, in half the time; 800 steps gain a point of iris over 400, 1,600 no more;
# - learning rates of 0.005 and 0.003 gain a point of many clusters over 0.01; batches of 64 do as well as 32;
# - a label smoothing of 0.03 gains a point of digits and loses four of heavy tails.
#
# The fast preset trains on CIFAR-10's 50,000 images in a fiftieth of the paper's time, and as accurately. It was chosen
# on a held-out tenth of the training images, over two to six seeds, on features of patches and of ResNet-18, at 112
# pixels, as they are and scaled to length 1:
# - a fiftieth of the time buys seven epochs. With Adam and one cycle of learning rates, six reach 77.9% of ResNet-18's
#   (the paper's recipe 76.9%), 77.9% of length 1 (72.0%) and 69.9% of patches (69.9%); three 77.1, 77.3 and 68.4%;
# - centred features gain a point, which no step size per weight makes up for; a spread per feature gains no more;
# - learning rates of 0.01 and 0.02 do equally well; 0.003 loses half a point, and a point of patches;
# - batches of 64 to 512 do equally well, each at its best rate; 128 is the largest that one thread multiplies best;
# - weight decays of 0.05 to 0.2 do equally well in so few epochs;
# - on few images, 750 steps do as well as the paper's 300 epochs (digits) and as 2,250 steps (a thousand images).
#
# The best preset was chosen likewise. Twelve epochs gain a point of patches; thirty gain no more, nor does a label
# smoothing of 0.1, nor a larger weight decay. A spread per feature costs little there, and makes it fit other features.
PRESETS = {
    "paper": Recipe(),
    "fast": Recipe(
        epochs=7,
        batch_size=128,
        learning_rate=0.01,
        schedule="one-cycle",
        optimizer="adam",
        weight_decay=0.2,
        standardize="together",
        init="he",
        least_steps=750,
    ),
    "best": Recipe(
        epochs=12,
        batch_size=128,
        learning_rate=0.01,
        schedule="one-cycle",
        optimizer="adam",
        weight_decay=0.2,
        standardize="each",
        init="he",
        least_steps=1500,
    ),
    "tabular": Recipe(
        epochs=50,
        batch_size=32,
        learning_rate=0.005,
        schedule="one-cycle",
        optimizer="adam",
        standardize="each",
        init="he",
        least_steps=1000,
        relative_decay=30.0,
        hidden_layer_sizes=(256,),
    ),
}
