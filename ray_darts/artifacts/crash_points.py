"""Named moments at which a test may end the process, so that every half-done state of the protocol can be visited.

Without a hook a crash point does nothing. Who sets the hook (a test, or orchestration from an environment variable)
decides what happens there.
"""

from __future__ import annotations

from collections.abc import Callable

CRASH_POINTS = (
    "claim.before_record",
    "claim.after_record",
    "advance.before_part",
    "advance.after_part",
    "advance.between_checkpoint_files",
    "advance.after_checkpoint",
    "advance.before_record",
    "advance.after_record",
    "advance.acknowledged",
    "finish.before_record",
    "finish.after_record",
    "finish.acknowledged",
    "fail.before_record",
    "fail.after_record",
    "fail.acknowledged",
    "publish.before_genotype",
    "publish.before_alpha_trace",
    "publish.before_metrics",
    "publish.before_best",
    "publish.after_best",
)

RELEASE_CRASH_POINTS = ("release.before_record", "release.after_record", "release.before_delete")
"""Those of a finished run that lets go of its parts or of its last checkpoint."""

TRAINING_CRASH_POINTS = (
    "publish.before_result",
    "publish.before_weights_last",
    "publish.before_weights_best",
)
"""Those that only a training visits; it shares the others but the documents of a search."""

_hook: Callable[[str], None] | None = None


def set_crash_hook(hook: Callable[[str], None] | None) -> None:
    """Call `hook(name)` at each crash point of this process from now on; None removes it."""
    global _hook
    _hook = hook


def crash_point(name: str) -> None:
    """Mark a moment. Raises: whatever the hook raises."""
    assert name in CRASH_POINTS or name in TRAINING_CRASH_POINTS or name in RELEASE_CRASH_POINTS, name
    if _hook is not None:
        _hook(name)
