# SPDX-License-Identifier: Apache-2.0
"""The `damo-tf` command: what operators do to stores, from a shell. docs/operations.md has it by example.

Nothing here may import TensorFlow: a command starts in a blink, and where there is none. So it stands on the
module `damo`, not on `damo_tf.Store`.
"""

from damo_tf.command.application import Application
from damo_tf.command.checkpoints import checkpoint, restore
from damo_tf.command.inspection import info, row, top, verify
from damo_tf.command.maintenance import compact, convert, delete, expire
from damo_tf.command.transfer import dump, load

__all__ = ["command", "main"]

#: The command as a click object, for tests and shell completion.
command = Application(
    "damo-tf",
    help="Looks into stores of embedding rows and looks after them.",
    commands=[info, row, top, verify, dump, load, checkpoint, restore, expire, delete, convert, compact],
)


def main() -> None:
    """Runs the command on this process's arguments, and exits."""
    command.main()
