"""Errors for people: the one exception that means that the user can fix it, and those of others in a line."""


class UserError(Exception):
    """A mistake in what the user gave. The message is one line that names the field and the remedy.

    The command lines print it on stderr without a traceback and exit with code 2.
    """


def one_line(error: BaseException) -> str:
    """What somebody else's error says, for a message of one line; its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
