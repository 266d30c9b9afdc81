"""L-BFGS: a quasi-Newton descent of one head, whose objective is evaluated elsewhere, together with others'.

Nocedal and Wright (2006), algorithm 7.4, which starts from what stands for the Hessian, renewed now and then.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from fastmlp.backends.base import Array
from fastmlp.network.logistic import Curvature

PAIRS = 20  # of steps and changes of the gradient that the Hessian is estimated from
CURVED = {0, 3, 6, 10, 15, 20, 40, 80, 160}  # rounds: probabilities change most in the first
SUFFICIENT = 1e-4  # share of the expected decrease that a step must bring
NOISE = {False: 1e-6, True: 1e-13}  # of an objective, relative, by precision; below it the slope decides
LEAST_STEP = 1e-3  # a shorter one in float32 says that its rounding hides the slope
ENOUGH = {False: 3e-10, True: 1e-10}  # the expected decrease, relative, at which a descent ends


class Descent:
    """The state of a descent: where it is, and the head that it wants evaluated next, `candidate`.

    It works in float32 until little is left to gain, and then is `precise`. Not to be shared between threads.
    """

    def __init__(self, xp: Any, head: Array, penalty: float) -> None:
        self._xp, self.penalty = xp, penalty
        self.head = self.candidate = head
        self.precise = self.converged = self._started = False
        self.rounds, self.loss, self.gradient_norm = 0, 0.0, 0.0
        self._gradient: Array = None
        self._direction: Array = None
        self._curvature: Any = None
        self._slope, self._step, self._scale = 0.0, 1.0, 1.0
        self._pairs: deque[tuple[Array, Array, float]] = deque(maxlen=PAIRS)

    @property
    def curved(self) -> bool:
        """Whether it wants the curvature too: often at first, as probabilities change, then rarely."""
        return self.rounds in CURVED

    def receive(self, loss: float, gradient: Array, curvature: Curvature | None) -> None:
        """Take in what was evaluated at the candidate, and choose the next."""
        self.rounds += 1
        if not self._started:
            self._started = True
            self._move_to_candidate(loss, gradient, curvature)
        elif self._is_enough(loss, gradient):
            self._remember(gradient)
            self._move_to_candidate(loss, gradient, curvature)
        else:
            self._step /= 2
            self.candidate = self.head + self._step * self._direction
            if self._step < LEAST_STEP and not self.precise:
                self._go_on_precisely()

    def _is_enough(self, loss: float, gradient: Array) -> bool:
        """Whether the objective, or where it is all noise its slope, has decreased enough (Hager and Zhang 2005)."""
        if loss <= self.loss + SUFFICIENT * self._step * self._slope:
            return True
        slope = self._dot(gradient, self._direction)
        return loss <= self.loss * (1 + NOISE[self.precise]) and slope <= -0.8 * self._slope

    def _remember(self, gradient: Array) -> None:
        step, change = self._step * self._direction, gradient - self._gradient
        product = self._dot(step, change)
        if product > 0:
            self._pairs.append((step, change, product))
            self._scale = product / self._dot(change, self._curvature.solve(change))

    def _move_to_candidate(self, loss: float, gradient: Array, curvature: Curvature | None) -> None:
        self.head, self.loss, self._gradient = self.candidate, loss, gradient
        if curvature is not None:
            self._curvature, self._scale = curvature, 1.0
        self._direction = self._newton_direction()
        self._slope, self._step = self._dot(gradient, self._direction), 1.0
        self.gradient_norm = self._dot(gradient, gradient) ** 0.5
        self.candidate = self.head + self._direction
        self._judge()

    def _judge(self) -> None:
        """End, or go on in float64 from the same head, once the expected decrease is small."""
        if -self._slope / 2 <= ENOUGH[self.precise] * self.loss:
            if self.precise:
                self.converged = True
            else:
                self._go_on_precisely()

    def _go_on_precisely(self) -> None:
        self.precise, self._started, self.candidate = True, False, self.head

    def _newton_direction(self) -> Array:
        direction, factors = -self._gradient, []
        for step, change, product in reversed(self._pairs):
            factor = self._dot(step, direction) / product
            direction = direction - factor * change
            factors.append(factor)
        direction = self._scale * self._curvature.solve(direction)
        for (step, change, product), factor in zip(self._pairs, reversed(factors), strict=True):
            direction = direction + (factor - self._dot(change, direction) / product) * step
        return direction

    def _dot(self, a: Array, b: Array) -> float:
        xp = self._xp
        return float(xp.matmul(xp.reshape(a, (-1,)), xp.reshape(b, (-1,))))
