# SPDX-License-Identifier: Apache-2.0
"""`python -m damo_tf`: the `damo-tf` command."""

from damo_tf.command import main

if __name__ == "__main__":
    main()
