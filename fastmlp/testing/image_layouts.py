"""Images as they may lie in memory: at any byte, in another order, or with gaps between them."""

from __future__ import annotations

from fastmlp.testing.layouts import Layout, Shape

BEHIND = 16  # elements after what starts anywhere


def starting_at(start: int, behind: int = BEHIND) -> Layout:
    """Contiguous, so many elements behind where memory is aligned; with none behind it, what reads on leaves memory."""
    return Layout(f"starting at {start}", around=lambda _: (start, behind), contiguous=True)


def _nothing_around(_: Shape) -> tuple[int, int]:
    return 0, 0


WITH_GAPS = tuple(
    Layout(name, stored, view, _nothing_around)
    for name, stored, view in (
        ("every second column", lambda s: (*s[:-1], 2 * s[-1]), lambda xp, stored, shape: stored[..., ::2]),
        ("of wider images", lambda s: (*s[:-1], s[-1] + 5), lambda xp, stored, shape: stored[..., 1 : shape[-1] + 1]),
        ("every second image", lambda s: (2 * s[0], *s[1:]), lambda xp, stored, shape: stored[::2, ...]),
        (
            "columns first",
            lambda s: (*s[:2], s[3], s[2]),
            lambda xp, stored, shape: xp.permute_dims(stored, (0, 1, 3, 2)),
        ),
        (
            "channels last",
            lambda s: (s[0], *s[2:], s[1]),
            lambda xp, stored, shape: xp.permute_dims(stored, (0, 3, 1, 2)),
        ),
    )
)
