# SPDX-License-Identifier: Apache-2.0
"""Programs that have TensorFlow but no damo_tf, as a server has."""

#: The beginning of such a program: whatever is installed, damo_tf and its engine cannot be imported.
WITHOUT_DAMO_TF = """
import importlib.abc, sys

class NotInstalled(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("damo", "damo_tf"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NotInstalled())
for name in ("damo", "damo_tf"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise AssertionError(f"{name} can be imported")
"""

#: What such a program needs to read the rows of a dump, `group, {key: weights}` of each group.
READ_ROWS = """
import numpy as np

def read_rows(path):  # as docs/dump_format.md has it
    with open(path, "rb") as file:
        dims, counts = np.fromfile(file, "<i4", 256), np.fromfile(file, "<u8", 256)
        for group in np.flatnonzero(dims):
            record = np.dtype([("key", "<u8"), ("group", "<i4"), ("weights", "<f4", (int(dims[group]),))])
            rows = np.fromfile(file, record, int(counts[group]))
            yield int(group), dict(zip(rows["key"].tolist(), rows["weights"]))
"""
