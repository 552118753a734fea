"""The one exception type that stands for a user's mistake."""

from pathlib import Path


class UserError(Exception):
    """Bad input: the message is one line that says what is wrong, where, and what to do.

    Jobs print it without a traceback; everything else that is raised is a defect of ours.
    """


def in_a_line(error: Exception) -> str:
    """What an exception of anybody's says, or else what it is called, without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


class ArtifactError(UserError):
    """A file of a study that cannot be used as it is.

    `state` says why: ``missing``, ``broken`` (unreadable or altered), ``foreign`` (something else,
    or made with other settings) or ``stale`` (made by other code, or from other parents).
    """

    def __init__(self, path: Path, state: str, reason: str) -> None:
        self.path, self.state, self.reason = path, state, reason
        super().__init__(
            f"{path}: {reason}; delete the file and run snakemake again to make it anew"
        )
