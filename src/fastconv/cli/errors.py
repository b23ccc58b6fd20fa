"""Errors that end a subcommand with one line on standard error."""


class CommandError(Exception):
    """What the user asked for cannot be done; the message says why, in one line."""

    status = 1


class UsageError(CommandError):
    """Arguments that contradict each other."""

    status = 2
