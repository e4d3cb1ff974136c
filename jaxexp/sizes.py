"""How many runs a command line asks for at least, told from its words alone, before anything is imported."""

import re
from collections.abc import Sequence

from jaxexp.errors import TooManyRunsError

MANY_RUNS = 100_000
"""More runs than this are planned only when it was said that so many are wanted."""


def check_words(words: Sequence[str], yes: bool) -> None:
    """Checks that the axes and seeds of `key=value` words do not ask for more runs than their author is likely to know.

    Args:
        words: `key=value` each; what cannot be read counts as one value, and is refused later.
        yes: Whether so many are meant.

    Raises:
        TooManyRunsError: If the product of their sizes is over 100,000 and `yes` was not said.

    Example:
        >>> check_words(["learning_rate=geomspace(1e-3,1,100)", "seeds=64"], yes=False)
    """
    total = 1
    for word in words:
        name, _, text = word.partition("=")
        total *= _size(name, text)
    if total > MANY_RUNS and not yes:
        raise TooManyRunsError(
            f"{' '.join(words)} asks for at least {total:,} runs, more than {MANY_RUNS:,}: say --yes if you mean it, "
            "or sweep less"
        )


def _size(name: str, text: str) -> int:
    """The values that a word stands for."""
    if name == "seeds":
        between = re.fullmatch(r"(\d+):(\d+)", text)
        if between is not None:
            return max(1, int(between.group(2)) - int(between.group(1)))
        return max(1, int(text)) if text.isdigit() else text.count(",") + 1
    spaced = re.fullmatch(r"(?:geomspace|linspace|logspace)\(.*,\s*(\d+)\s*\)", text)
    if spaced is not None:
        return max(1, int(spaced.group(1)))
    return 1 if "(" in text else text.count(",") + 1
