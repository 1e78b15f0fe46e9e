"""Where Ray keeps its own files: in the memory of the process that writes them. Nothing of ours is in there.

Ray wants a shared place for checkpoints and for a resume of its own. It is given no checkpoints and never resumes
anything: a run continues from its log. What is left, a marker that Ray looks for where it has just put it and Tune's
view of its trials, is read by its writer alone. So a store that does not answer cannot end a search by Ray's hand,
and no bucket holds a pickle.
"""

from __future__ import annotations

import fsspec
import pyarrow.fs

RAY_PATH = "/ray"


def ray_filesystem() -> pyarrow.fs.FileSystem:
    """`storage_filesystem` of Ray's RunConfig, where `storage_path` is RAY_PATH; empty in every new process."""
    return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(fsspec.filesystem("memory")))
