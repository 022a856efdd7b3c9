"""Writes the report of a finished margin."""

from margin_cache.margin.model import Margin
from margin_cache.margin.output import use_output_listing
from margin_cache.margin.remote_input import use_catalog_listing
from margin_cache.report.charts import draw_costs, draw_histograms
from margin_cache.report.data import read_costs, read_report_data, sources_state
from margin_cache.report.page import page_text
from margin_cache.report.sky import draw_maps
from margin_cache.report.style import RenderedFigure, write_figure
from margin_cache.report.zoom import draw_partition
from margin_cache.storage.files import write_json, write_text


def write_report(margin: Margin) -> list[RenderedFigure]:
    """Write the page and the figures of a finished margin; return the figures.

    Raises:
        MarginCacheError: The margin is not finished, or a file cannot be read.
    """
    if margin.plan.parameters.catalog.url:
        use_catalog_listing(margin.plan, margin.files)
    if margin.files.url:
        use_output_listing(margin.files)
    state = sources_state(margin)
    data = read_report_data(margin)
    costs = read_costs(margin.files)
    figures = [
        *draw_maps(data),
        draw_histograms(data),
        draw_costs(costs),
        draw_partition(margin, data),
    ]
    for figure in figures:
        write_figure(figure, margin.files.report_dir)
    write_text(margin.files.report_page, page_text(data, figures, costs))
    write_json(margin.files.report_state, state)
    return figures
