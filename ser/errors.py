"""The one exception that a user's mistake raises."""


class SerError(Exception):
    """A mistake that the user can mend: the message names the culprit, the rule and the fix.

    The scripts and the command line print it as one paragraph, without a traceback.
    """
