"""The one exception type that stands for a user's mistake."""


class UserError(Exception):
    """Bad input: the message is one line that says what is wrong, where, and what to do.

    Jobs print it without a traceback; everything else that is raised is a defect of ours.
    """
