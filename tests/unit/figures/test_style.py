"""Figures are written as PNG and SVG, with the same bytes each time."""

from pathlib import Path

from margin_cache.figures.style import (
    new_figure,
    placeholder_figure,
    plain_ticks,
    render,
    write_figure,
)


def test_both_files_are_written(tmp_path: Path):
    figure = placeholder_figure("name", "A title", "Nothing to show.")
    write_figure(figure, tmp_path / "new")
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"name.png", "name.svg"}
    assert (tmp_path / "new/name.png").read_bytes() == figure.png
    assert (tmp_path / "new/name.svg").read_bytes() == figure.svg
    assert figure == placeholder_figure("name", "A title", "Nothing to show.")


def test_ticks_are_numbers_instead_of_powers():
    figure, (axes,) = new_figure(3)
    axes.plot([1, 3000], [1, 1])
    axes.set_xscale("log")
    plain_ticks(axes.xaxis)
    figure.canvas.draw()
    texts = {label.get_text() for label in axes.get_xticklabels()}
    assert {"10", "50", "1,000", "2,000"} <= texts
    render(figure, "a", "b", "c")
