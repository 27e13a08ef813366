# SPDX-License-Identifier: Apache-2.0
"""What is measured: one module each, with a function `measure(bench)` that returns its sections."""
