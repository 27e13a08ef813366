# SPDX-License-Identifier: Apache-2.0
"""Errors that the user of a command can put right."""


class CommandError(Exception):
    """The command cannot go on. Its text is one line that says what, where and why."""


class DataError(CommandError):
    """A data file is missing, unreadable or malformed, or has too little in it."""
