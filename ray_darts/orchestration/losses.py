"""Why Ray lost a process: which cause counts, and one line about it.

Ray's own texts are pages of ids and statistics; they stay in the log.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

from ray.exceptions import OutOfMemoryError

from ray_darts.errors import RankLost
from ray_darts.orchestration.ray_internals import cause_of

_MEMORY = re.compile(r"Memory on the node \(IP: ([^,)]+).*?\) was ([\d.]+) ?GB.*?/ ?([\d.]+) ?GB", re.DOTALL)
_DETAIL = re.compile(r"(?:Worker exit detail: |The actor (?:is dead|died) because (?!.*Worker exit detail))(.+)")
_ADVICE = "Some common causes include"
_LONGEST = 300


def first_cause(failures: Iterable[BaseException]) -> BaseException | None:
    """Of what Ray reports for several ranks the cause of the others: not the loss of a peer, where another is known."""
    causes = [cause_of(error) for error in failures]
    return min(causes, key=lambda cause: (not ended_by_itself(cause), isinstance(cause, RankLost)), default=None)


def ended_by_itself(cause: BaseException) -> bool:
    """Whether a rank ended for a reason of its own: its memory or its device, not a lost peer, process or machine.

    A process that died without a reason counts as killed: the system does not say by whom.
    """
    torch = sys.modules.get("torch")  # absent: the cause is none of PyTorch's
    return isinstance(cause, OutOfMemoryError) or (torch is not None and isinstance(cause, torch.AcceleratorError))


def describe_loss(error: BaseException | None) -> str:
    """The cause that Ray names, in one line, with what to change where the node's memory was full."""
    error = None if error is None else cause_of(error)
    text = str(error)
    memory = _MEMORY.search(text)
    if memory is not None:
        node, used, limit = memory.groups()
        return (
            f"a process was killed: node {node} ran out of memory ({float(used):.1f} of {float(limit):.1f} GB); use "
            "fewer runs at a time (operation.max_concurrent), or more CPUs per worker (operation.cpus_per_worker), so "
            "that fewer workers share a node"
        )
    details = _DETAIL.findall(text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = str((details or lines or [type(error).__name__])[0]).partition(_ADVICE)[0].strip()
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
