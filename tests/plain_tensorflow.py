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
