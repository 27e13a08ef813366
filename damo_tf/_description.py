# SPDX-License-Identifier: Apache-2.0
"""The description of a checkpoint, as far as Python needs it; docs/checkpoint_format.md."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

#: The file that makes a directory a checkpoint.
DESCRIPTION_FILE = "DAMO_CHECKPOINT"


@dataclass(frozen=True)
class Description:
    """What a checkpoint says of itself.

    Attributes:
        base: path, relative to the checkpoint's directory, of what it builds on; `None` for a full one.
        rows: of the store, expired ones that were still there included.
    """

    base: str | None
    rows: int


def read_description(directory: str | os.PathLike[str]) -> Description:
    """The description of the checkpoint in a directory.

    Raises:
        FileNotFoundError: the directory is no checkpoint.
        RuntimeError: the description is damaged.
    """
    try:
        members = json.loads((Path(directory) / DESCRIPTION_FILE).read_text("utf-8"))
        base = str(members["base"]["path"]) if "base" in members else None
        return Description(base, sum(int(group["rows"]) for group in members["groups"]))
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"'{directory}' is no checkpoint") from None
    except (KeyError, TypeError, ValueError):
        raise RuntimeError(f"the description of '{directory}' is damaged") from None
