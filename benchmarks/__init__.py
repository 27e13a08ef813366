# SPDX-License-Identifier: Apache-2.0
"""What damo_tf costs in time, memory and disk, beside its rivals. README.md tells how to read it.

    python -m benchmarks           # `make bench`
    python -m benchmarks.peers     # `make bench-peers`

`workloads` says what is measured, `contenders` who is; each contender works in a process of its own
(`worker`, driven by `launcher`), and `timing` lets them take turns.
"""
