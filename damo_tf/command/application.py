# SPDX-License-Identifier: Apache-2.0
"""Application: the group of commands, and how any of them ends."""

import errno
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

FAILURE = 1
#: What a shell reports of a process that SIGINT has ended.
INTERRUPTED = 130


class _Interrupted(click.ClickException):
    """Ctrl-C."""

    exit_code = INTERRUPTED


class Application(click.Group):
    """A click group whose commands end with status 0, 1 (failure), 2 (usage) or 130 (Ctrl-C).

    What went wrong is one line on stderr; a reader of stdout that went away is no message at all.
    """

    def __init__(self, name: str, *, help: str, commands: Sequence[click.Command]) -> None:
        super().__init__(
            name, help=help, commands=commands, context_settings={"help_option_names": ["-h", "--help"]}
        )

    def main(  # type: ignore[override]  # click's returns where it is not standalone; this never does
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Runs the command and exits."""
        sys.exit(self._status(args, prog_name or self.name, **extra))

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order they were given: from looking to changing."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command. Ctrl-C is told like any failure: click itself would print an empty line before."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise _Interrupted(_with_notes("interrupted", error)) from None

    def _status(self, args: Sequence[str] | None, prog_name: str | None, **extra: Any) -> int:
        extra.pop("standalone_mode", None)
        try:
            status = super().main(args, prog_name, standalone_mode=False, **extra)
            sys.stdout.flush()
            return status if isinstance(status, int) else 0
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            return error.exit_code
        except click.UsageError as error:
            help_at = f" (see '{error.ctx.command_path} --help')" if error.ctx is not None else ""
            return _report(f"{error.format_message().removesuffix('.')}{help_at}", error.exit_code)
        except click.ClickException as error:
            return _report(error.format_message(), error.exit_code)
        except (
            ArithmeticError,
            ImportError,
            LookupError,
            OSError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                _drop_output()
                return FAILURE
            return _report(_with_notes(_text(error), error), FAILURE)


def _text(error: Exception) -> str:
    """What is of use to people: no number of an error, no name of its kind, no quotes around a KeyError's."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return text.removeprefix("failed precondition: ")


def _with_notes(message: str, error: BaseException) -> str:
    """The message, and what commands have noted of what they had done by then."""
    return "; ".join([message, *getattr(error, "__notes__", ())])


def _report(message: str, status: int) -> int:
    click.echo(f"damo-tf: {' '.join(message.split())}", err=True)
    return status


def _drop_output() -> None:
    """Lets the interpreter flush stdout at its end without meeting the broken pipe again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
