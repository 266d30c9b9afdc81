"""Finds kernels that are none: that call the array code they stand for, another backend, or what judges them."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache, wraps
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from fastmlp.backends.base import Backend, Kernel
from fastmlp.network.optimizers import OPTIMIZERS
from fastmlp.ops import names_of, overridden
from fastmlp.ops.network import NetworkOps
from fastmlp.ops.patches import PatchOps
from fastmlp.testing import emulated
from fastmlp.testing.cases import CASES

JUDGES = str(Path(__file__).parent)
NO_JUDGES = {__file__, emulated.__file__}  # this module's own frames, and a backend that happens to lie here
EPOCHS = ("fused_epoch", "fused_evaluation")


class Watch:
    """Listens to the Python calls that a backend's kernels and fused epochs make.

    Calls in other threads and processes, and a copy of the array code, it does not hear.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend, self.found = backend, ""  # the first call that no kernel may make, in a sentence

    @contextmanager
    def listening(self) -> Iterator[None]:
        """To all kernels of the backend, which are called in this thread."""
        with ExitStack() as undo:
            for ops, array_code in ((self._backend.network_ops, NetworkOps), (self._backend.patch_ops, PatchOps)):
                for op in overridden(ops, array_code):
                    _replace(undo, ops, op, self._heard(f"kernel of {op}", getattr(ops, op), {op}))
            for name in EPOCHS:
                if getattr(type(self._backend), name) is not getattr(Backend, name):
                    epoch = self._heard(name.replace("_", " "), getattr(self._backend, name), names_of(NetworkOps))
                    _replace(undo, self._backend, name, epoch)
            kernels = self._backend.image_kernels
            heard = {op: self._heard(f"kernel of {op}", kernel, {op}) for op, kernel in kernels.items()}
            _replace(undo, self._backend, "image_kernels", heard)
            yield

    def _heard(self, what: str, kernel: Kernel, stands_for: Collection[str]) -> Kernel:
        """The kernel, but listened to; stands_for: the ops whose array code it may not call."""

        def listen(frame: FrameType, event: str, _: Any) -> None:
            if event == "call" and not self.found and (culprit := self._culprit(frame, stands_for)):
                self.found = f"{self._backend}'s {what} calls {culprit}: compute it there, or leave the kernel out"

        @wraps(kernel)
        def heard(*arguments: Any, **named: Any) -> Any:
            outer = sys.getprofile()
            sys.setprofile(listen)
            try:
                return kernel(*arguments, **named)
            finally:
                sys.setprofile(outer)

        return heard

    def _culprit(self, frame: FrameType, stands_for: Collection[str]) -> str:
        """What is being called, if a kernel for those ops may not call it."""
        code = frame.f_code
        if (op := _array_code().get(code, "")) in stands_for and self._has_kernel(op, frame):
            return f"the array code of {op}"
        if code.co_name in stands_for or code.co_name in EPOCHS:
            owner = frame.f_locals.get("self")
            if isinstance(owner, NetworkOps | PatchOps | Backend) and not self._owns(owner):
                return f"{type(owner).__name__}.{code.co_name}"
        if code.co_filename.startswith(JUDGES) and code.co_filename not in NO_JUDGES:
            return f"fastmlp.testing ({code.co_name})"
        return ""

    def _has_kernel(self, op: str, frame: FrameType) -> bool:
        """Not for the step of an optimizer which the backend leaves to the array code."""
        if op != "update":
            return True
        optimizer = frame.f_locals.get("optimizer", frame.f_locals.get("self"))
        return getattr(optimizer, "name", "") in self._backend.network_ops.optimizers

    def _owns(self, owner: Any) -> bool:
        own = (self._backend, self._backend.network_ops, self._backend.patch_ops)
        return isinstance(owner, tuple(map(type, own)))


@cache
def _array_code() -> Mapping[CodeType, str]:
    """The code of every op's array code, and of the optimizers' steps, which are part of `update`."""
    ops = {vars(family)[op].__code__: op for family in (NetworkOps, PatchOps) for op in names_of(family)}
    steps = {kind.step.__code__: "update" for kind in OPTIMIZERS.values()}
    images: dict[CodeType, str] = {}
    for case in CASES.values():
        if case.family == "images":
            function: Callable[..., Any] = inspect.unwrap(case.array_code)
            images[function.__code__] = case.op
    return ops | steps | images


def _replace(undo: ExitStack, owner: Any, name: str, value: Any) -> None:
    """Set an attribute of this object, until then."""
    before = vars(owner).get(name)
    undo.callback(lambda: delattr(owner, name) if before is None else setattr(owner, name, before))
    setattr(owner, name, value)
