"""The errors that jaxexp raises: one family, whose messages say what, where, why and what to type.

A run that diverges is no error: it is marked, kept and counted. Nothing here prints or exits.
"""

import difflib
from collections.abc import Iterable


class JaxexpError(Exception):
    """The parent of every error that jaxexp raises on purpose."""


class ConfigError(JaxexpError, ValueError):
    """A hyperparameter is unknown, has the wrong type or lies out of its range."""


class SweepError(JaxexpError, ValueError):
    """A sweep is empty, contradictory or names an axis twice."""


class StudyError(JaxexpError, ValueError):
    """A study, or the experiment in it, cannot be trained as it is written."""


class StoreError(JaxexpError, OSError):
    """A run folder cannot be read, cannot be written or belongs to something else."""


class DamagedError(StoreError):
    """A file of a run folder is not what was written."""


class MismatchError(StoreError):
    """A run folder holds results of other code, other data or another tile."""


class TooManyRunsError(SweepError):
    """A sweep is larger than what is started without being asked."""


class OutOfMemoryError(JaxexpError, MemoryError):
    """A tile needs more memory than there is; a narrower one may not."""


class Interrupted(JaxexpError):
    """Training was asked to stop and did, with everything finished so far committed.

    Attributes:
        number: The signal that asked.
    """

    def __init__(self, told: str, number: int) -> None:
        super().__init__(told)
        self.number = number


def suggestion(name: str, known: Iterable[str]) -> str:
    """Returns ``; did you mean 'x'?`` for the known name nearest to `name`, else the list of them.

    Args:
        name: What was typed.
        known: The names that exist.

    Example:
        >>> suggestion("learning_rat", ["learning_rate", "momentum"])
        "; did you mean 'learning_rate'?"
        >>> suggestion("width", ["learning_rate", "momentum"])
        '; known: learning_rate, momentum'
    """
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; known: {', '.join(known)}" if known else ""
