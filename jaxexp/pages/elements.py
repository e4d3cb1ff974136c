"""Elements of a page: paragraphs, tables and commands as HTML in which all text is escaped."""

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

_MAX_TEXT = 300


class Markup(NamedTuple):
    """What is HTML already, and must not be escaped again."""

    html: str


def text(value: Any) -> str:
    """Returns a value as escaped text, cut where it is longer than anyone reads.

    Example:
        >>> text("<b>")
        '&lt;b&gt;'
    """
    told = str(value)
    return html.escape(told if len(told) <= _MAX_TEXT else f"{told[: _MAX_TEXT - 4]} ...")


def paragraphs(texts: Iterable[str], kind: str = "") -> str:
    """Returns a paragraph a text, whole, what is between backticks as code; those that are empty are left out.

    Args:
        texts: What they say.
        kind: Their class.

    Example:
        >>> paragraphs(["`a` < b", ""])
        '<p><code>a</code> &lt; b</p>'
    """
    attribute = f' class="{kind}"' if kind else ""
    return "".join(f"<p{attribute}>{_marked(told)}</p>" for told in texts if told)


def items(texts: Iterable[str], kind: str = "") -> str:
    """Returns a list, as `paragraphs`; nothing where there is no text.

    Example:
        >>> items(["a", "b"])
        '<ul><li>a</li><li>b</li></ul>'
    """
    attribute = f' class="{kind}"' if kind else ""
    made = "".join(f"<li>{_marked(told)}</li>" for told in texts if told)
    return f"<ul{attribute}>{made}</ul>" if made else ""


def _marked(told: str) -> str:
    return re.sub("`([^`\n]+)`", r"<code>\1</code>", html.escape(told))


def table(caption: str, titles: Sequence[str], lines: Iterable[Sequence[Any]], kinds: Mapping[int, str]) -> str:
    """Returns a table in a box of its own that scrolls; the first cell of a line heads it.

    Args:
        caption: What it shows.
        titles: Of the columns.
        lines: The cells of each row: markup as it is, all else as text.
        kinds: The class of a column, by its number.

    Example:
        >>> "<td>&lt;</td>" in table("Signs.", ["name", "sign"], [["less", "<"]], {})
        True
    """

    def cell(tag: str, column: int, value: Any, scope: str = "") -> str:
        kind = f' class="{kinds[column]}"' if column in kinds else ""
        return f"<{tag}{scope}{kind}>{value.html if isinstance(value, Markup) else text(value)}</{tag}>"

    head = "".join(cell("th", column, title, ' scope="col"') for column, title in enumerate(titles))
    body = "".join(
        "<tr>" + cell("th", 0, line[0], ' scope="row"') + "".join(cell("td", c + 1, v) for c, v in enumerate(line[1:]))
        + "</tr>"
        for line in lines
    )  # fmt: skip
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(caption)}"><table>'
        f"<caption>{text(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def commands(lines: Iterable[str]) -> str:
    """Returns lines to type, or any other text that keeps its line breaks.

    Example:
        >>> commands(["jaxexp list"])
        '<pre tabindex="0"><code>jaxexp list</code></pre>'
    """
    return f'<pre tabindex="0"><code>{html.escape(chr(10).join(lines))}</code></pre>'
