"""Figures as markup that a page can hold: SVG inline, or pixels where that is smaller, and what is seen in words.

Ids carry a prefix of the figure, so that several figures share a page; nothing refers to anything outside.
"""

import base64
import io
import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import numpy as np

_MOST_BYTES, _MOST_MARKS = 350_000, 1000
"""A vector figure that is larger is shown as pixels; so are more marks than that in one that is not."""

_DECIMALS = re.compile(r"(-?\d+\.\d\d)\d+")
_REFERENCE = re.compile(r"#([\w-]+)")
_MAX_WORDS = 700


def markup(figure: Any, prefix: str) -> tuple[str, float]:
    """Returns a figure as an `<svg>` or `<img>` element that needs no other file, and its natural width in pixels.

    Args:
        figure: Of matplotlib.
        prefix: What the ids in it begin with: a letter, then letters, digits and `-`.
    """
    width = figure.get_size_inches()[0] * 96
    for axes in figure.axes:
        for marks in axes.collections:
            if len(marks.get_offsets()) > _MOST_MARKS:
                marks.set_rasterized(True)
        for line in axes.lines:
            if len(line.get_xdata()) > _MOST_MARKS:
                line.set_rasterized(True)
    drawn = svg(figure, prefix)
    if len(drawn) > _MOST_BYTES:
        buffer = io.BytesIO()
        figure.set_layout_engine("none")  # it stays as it was just laid out
        figure.savefig(buffer, format="png", dpi=80, transparent=True)
        content = base64.b64encode(buffer.getvalue()).decode()
        drawn = f'<img src="data:image/png;base64,{content}" alt="{_attribute(words(figure))}">'
    return drawn, width


def svg(figure: Any, prefix: str) -> str:
    """Returns a figure as an `<svg>` element with the role of an image; its text stays text.

    Args:
        figure: Of matplotlib.
        prefix: What the ids in it begin with.

    Example:
        >>> from matplotlib.figure import Figure
        >>> figure = Figure(); _ = figure.subplots().set_title("a < b")
        >>> "a &lt; b" in svg(figure, "one")
        True
    """
    import matplotlib

    buffer = io.BytesIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix, "savefig.transparent": True}):
        figure.savefig(buffer, format="svg", metadata=nothing, dpi=110)
    root = ElementTree.fromstring(buffer.getvalue())
    _simplify(root, prefix)
    box = root.get("viewBox", "")
    root.attrib = {"viewBox": box, "role": "img", "aria-label": words(figure)}
    return ElementTree.tostring(root, encoding="unicode")


def _simplify(root: Any, prefix: str) -> None:
    """Plain names, ids with the prefix where something refers to them, and two decimals; metadata and styles go."""
    for element in list(root.iter()):
        for child in list(element):
            if _name(child.tag) in ("metadata", "style", "title"):
                element.remove(child)
        element.tag = _name(element.tag)
        element.attrib = {_name(key): _shorter(_name(key), value) for key, value in element.attrib.items()}
    used = {name for element in root.iter() for value in element.attrib.values() for name in _REFERENCE.findall(value)}
    for element in root.iter():
        if element.get("id") not in used:
            element.attrib.pop("id", None)
        for key, value in element.attrib.items():
            if key == "id":
                element.set(key, f"{prefix}-{value}")
            elif key == "href" or "url(#" in value:
                element.set(key, re.sub(r"^#|(?<=url\()#", f"#{prefix}-", value))


def _name(qualified: Any) -> str:
    return str(qualified).rpartition("}")[2]


def _shorter(key: str, value: str) -> str:
    if key in ("d", "points", "x", "y", "cx", "cy") or (key == "transform" and "matrix" not in value):
        return _DECIMALS.sub(r"\1", value) if "scale" not in value else value
    return value


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")


def words(figure: Any) -> str:
    """Returns what a figure shows in words: its heading, and for each panel its axes and where its lines begin and end.

    Args:
        figure: Of matplotlib.

    Example:
        >>> from matplotlib.figure import Figure
        >>> axes = Figure().subplots()
        >>> _ = axes.plot([0, 2], [1.0, 0.5], label="sgd"), axes.set(xlabel="steps", ylabel="loss")
        >>> words(axes.figure)
        'loss against steps: sgd from 1 to 0.5.'
    """
    heading = " ".join(figure.get_suptitle().split())
    panels = [told for axes in figure.axes if axes.get_visible() and (told := _panel(axes))]
    told = ". ".join([heading] * bool(heading) + panels).replace("\\$", "$") + "."
    return told if len(told) <= _MAX_WORDS else told[: _MAX_WORDS - 4] + " ..."


def _panel(axes: Any) -> str:
    names = [" ".join(text.split()) for text in (axes.get_title(), axes.get_ylabel(), axes.get_xlabel())]
    shown = f"{names[1]} against {names[2]}" if names[1] and names[2] else names[1] or names[2]
    lines = "; ".join(_lines(axes))
    return ": ".join(part for part in (names[0], shown, lines) if part)


def _lines(axes: Any) -> Iterator[str]:
    """The labelled lines of a panel, each with its first and last value."""
    for line in axes.get_lines():
        label, values = str(line.get_label()), np.asarray(line.get_ydata(), float)
        values = values[np.isfinite(values)]
        if not label.startswith("_") and values.size > 1:
            yield f"{' '.join(label.split())} from {values[0]:.3g} to {values[-1]:.3g}"
