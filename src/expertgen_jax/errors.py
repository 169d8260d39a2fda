"""The one exception that means: the user can fix this."""


class UserError(Exception):
    """A mistake in what the user gave. The message is one line that names the field and the remedy.

    The command lines print it on stderr without a traceback and exit with code 2.
    """
