"""Writes the report of a finished margin."""

from margin_cache.margin.model import Margin
from margin_cache.margin.output import use_output_listing
from margin_cache.margin.remote_input import use_catalog_listing
from margin_cache.report.benchmarks import read_costs
from margin_cache.report.charts import draw_costs, draw_histograms
from margin_cache.report.contents import read_contents
from margin_cache.report.page import page_text
from margin_cache.report.sky import draw_maps
from margin_cache.report.state import state_of
from margin_cache.report.style import RenderedFigure, write_drawn
from margin_cache.report.zoom import choose_partition, draw_no_partition, draw_zoom
from margin_cache.storage.files import write_json, write_text


def write_report(margin: Margin) -> list[RenderedFigure]:
    """Write the page and the figures of a finished margin; return the figures.

    Raises:
        MarginCacheError: the margin is not finished, or a file cannot be read.
    """
    if margin.plan.parameters.catalog.url:
        use_catalog_listing(margin.plan, margin.files)
    if margin.files.url:
        use_output_listing(margin.files)
    directory = margin.files.report_dir
    contents = read_contents(margin)
    costs = read_costs(margin.files)
    made_from = state_of(margin)
    number = choose_partition(contents)
    figures = [
        *draw_maps(contents),
        draw_histograms(contents),
        draw_costs(costs),
        draw_zoom(margin, contents, number) if number is not None else draw_no_partition(),
    ]
    for figure in figures:
        write_drawn(figure, directory)
    write_text(margin.files.report_page, page_text(contents, figures, costs))
    write_json(margin.files.report_state, made_from)
    return figures
