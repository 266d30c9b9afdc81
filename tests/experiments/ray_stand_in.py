"""A stand-in for Ray: every call runs in this process when it is asked for; a plan says which die or never end."""

import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any


class RayError(Exception):
    pass


class RayTaskError(RayError):
    def __init__(self, cause: Exception) -> None:
        self.cause = cause


class StandIn:
    """Enough of Ray: `dies` is told of each call, and True if its worker dies; `hangs`, if it never answers."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.alive: set[Any] = set()
        self.dies: Callable[[str], bool] = lambda method: False
        self.hangs: Callable[[str], bool] = lambda method: False
        self.cores, self.closed = 2.0, 0

    def init(self, **options: Any) -> None:
        self.options = options

    def shutdown(self) -> None:
        self.closed += 1

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": self.cores}}]

    def remote(self, kind: Any) -> Any:
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda *given: Actor(self, kind(*given))))

    def wait(self, answers: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        done = [answer for answer in answers if not answer.hangs]
        return done[-1:], []  # the last one first: an order that nobody should rely on

    def get(self, answer: Any) -> Any:
        return answer.get()

    def kill(self, actor: Any) -> None:
        self.alive.discard(actor)


class Actor:
    def __init__(self, ray: StandIn, worker: Any) -> None:
        self.ray, self.worker = ray, worker
        ray.alive.add(self)

    def __getattr__(self, method: str) -> Any:
        def remote(*arguments: Any) -> Any:
            return Answer(self, method, arguments)

        return SimpleNamespace(remote=remote)


class Answer:
    def __init__(self, actor: Actor, method: str, arguments: Any) -> None:
        self.actor, self.method, self.arguments = actor, method, arguments
        actor.ray.calls.append(method)
        self.hangs, self.dead = actor.ray.hangs(method), actor.ray.dies(method)

    def get(self) -> Any:
        if self.dead or self.actor not in self.actor.ray.alive:
            raise RayError
        try:
            return sent(getattr(self.actor.worker, self.method)(*sent(self.arguments)))
        except Exception as error:
            raise RayTaskError(error) from error


def sent(value: Any) -> Any:
    """As it arrives in another process."""
    return pickle.loads(pickle.dumps(value))


def every(number: int, method: str) -> Callable[[str], bool]:
    """Whether a call of that method is the number-th, or twice that, and so on."""
    seen = [0]

    def told(called: str) -> bool:
        seen[0] += called == method
        return called == method and seen[0] % number == 0

    return told
