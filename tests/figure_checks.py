"""What tests of figures ask of each."""

from matplotlib.figure import Figure
from matplotlib.text import Text


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def check_nothing_is_cut_off(figure: Figure) -> None:
    """All that is drawn lies within the page, once the layout is settled."""
    figure.draw_without_rendering()
    drawn, slack_in = figure.get_tightbbox(), 0.01
    width_in, height_in = figure.get_size_inches()
    assert min(drawn.x0, drawn.y0) >= -slack_in
    assert drawn.x1 <= width_in + slack_in
    assert drawn.y1 <= height_in + slack_in
