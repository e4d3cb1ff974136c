"""How many runs a command line asks for at least, told from its words alone, before anything is imported."""

import re
from collections.abc import Sequence

from jaxexp.errors import TooManyRunsError

MANY_RUNS = 100_000
"""More runs than this are planned only when it was said that so many are wanted."""


def check_words(words: Sequence[str], yes: bool, samples: int | None = None) -> None:
    """Checks that the axes and seeds of `key=value` words do not ask for more runs than their author is likely to know.

    Args:
        words: `key=value` each; what cannot be read counts as one value, and is refused later.
        yes: Whether so many are meant.
        samples: Trials to draw; no axis where None.

    Raises:
        TooManyRunsError: If the product of their sizes is over 100,000 and `yes` was not said.

    Example:
        >>> check_words(["learning_rate=geomspace(1e-3,1,100)", "seeds=64"], yes=False)
    """
    total = max(1, samples or 1)
    for word in words:
        name, _, text = word.partition("=")
        total *= _size(name.strip(), text.strip())
    if total > MANY_RUNS and not yes:
        said = [*words, *([] if samples is None else [f"--samples {samples}"])]
        raise TooManyRunsError(
            f"{' '.join(said)} asks for at least {total:,} runs, more than {MANY_RUNS:,}: say --yes if you mean it, "
            "or sweep less"
        )


def _size(name: str, text: str) -> int:
    """The values that a word stands for."""
    if name == "seeds":
        between = re.fullmatch(r"(\d+):(\d+)", text)
        if between is not None:
            return max(1, int(between.group(2)) - int(between.group(1)))
        return max(1, int(text)) if text.isdecimal() else text.count(",") + 1
    call = re.fullmatch(r"(\w+)\((.*)\)", text)
    if call is None:
        return text.count(",") + 1
    try:
        numbers = [int(float(part)) for part in call.group(2).split(",")]
    except (ValueError, OverflowError):
        return 1
    if call.group(1) in ("geomspace", "linspace", "logspace"):
        return max(1, numbers[-1])
    is_range = call.group(1) == "range" and len(numbers) < 4 and 0 not in numbers[2:]
    return max(1, length(range(*numbers))) if is_range else 1


def length(asked: range) -> int:
    """Returns how many numbers a range has, be they more than `len` can say.

    Example:
        >>> length(range(10**30)), length(range(7, 0, -2)), length(range(3, 0))
        (1000000000000000000000000000000, 4, 0)
    """
    return max(0, -((asked.start - asked.stop) // asked.step))
