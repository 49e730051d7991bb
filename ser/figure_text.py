"""Words in figures: how wide they are, and where a line of them may end."""

import re
from collections.abc import Iterable

SPACES = re.compile(r"(?<=\s)(?=\S)")
TITLE_POINTS = 13
JOINTS = re.compile(r"(?<=\w-)(?=\w)|(?<=,)(?=\S)")


def text_width_in(words: str, points: float, weight: str = "normal") -> float:
    """Width in inches of one line as matplotlib sets it."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=points, weight=weight)
    width_points: float = text_to_path.get_text_width_height_descent(words, font, False)[0]
    return width_points / 72


def widest_in(several: Iterable[str], points: float) -> float:
    """Width in inches of the widest."""
    return max(text_width_in(words, points) for words in several)


def wrapped(line: str, most_in: float, points: float, weight: str = "normal") -> str:
    """The line over as many as it takes, cut at spaces, a long word at hyphens and commas.

    A word that has neither stays whole, however wide.
    """

    def fits(words: str) -> bool:
        return text_width_in(words.rstrip(), points, weight) <= most_in

    lines = [""]
    for word in SPACES.split(line):
        for piece in [word] if fits(word) else JOINTS.split(word):
            if lines[-1] and not fits(lines[-1] + piece):
                lines.append("")
            lines[-1] += piece
    return "\n".join(words.rstrip() for words in lines)


def title_lines(title: str, most_in: float) -> tuple[list[str], float]:
    """A bold title cut to a width, and its points: fewer where one word is wider than that.

    A line that is too long ends after its first colon first: what is counted stays together.
    """
    given = []
    for line in title.splitlines():
        head, colon, tail = line.partition(": ")
        whole = not colon or text_width_in(line, TITLE_POINTS, "bold") <= most_in
        given += [line] if whole else [f"{head}:", tail]
    lines = "\n".join(wrapped(line, most_in, TITLE_POINTS, "bold") for line in given).splitlines()
    longest_in = max((text_width_in(line, TITLE_POINTS, "bold") for line in lines), default=0)
    return lines, TITLE_POINTS * most_in / max(most_in, longest_in)
