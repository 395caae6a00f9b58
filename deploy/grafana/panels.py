"""The five kinds of panels: lines, number, heatmap, states, rows.

    title, unit, what it shows, what to do, queries by legend -> a builder of a panel

Every panel is described in two paragraphs: what it `shows`, and as `advice` what to do when the figure is high, low or red.
Knows Grafana's SDK and no metric.
"""

from collections.abc import Mapping
from typing import NamedTuple, TypeVar

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as dashboard_builders
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="figment-prometheus")
"""The data source by the uid that deploy/grafana/provisioning gives it."""

DECIMALS = {"s": 1, "reqps": 1, "percentunit": 2, "none": 0, "short": 1, "bytes": 1}
"""Digits behind the point by unit, 1 for others."""

Panel = timeseries.Panel | stat.Panel | heatmap.Panel | statetimeline.Panel | table.Panel

Kind = TypeVar("Kind", timeseries.Panel, stat.Panel, heatmap.Panel, statetimeline.Panel, table.Panel)


class Step(NamedTuple):
    """A colour for figures of `start` and more; None is from minus infinity on."""

    start: float | None
    colour: str


def lines(
    title: str,
    unit: str,
    shows: str,
    advice: str,
    queries: Mapping[str, str],
    *,
    width: int = 12,
    stacked: bool = False,
    exemplars: bool = False,
    most: float | None = None,
    dashed: str | None = None,
) -> Panel:
    """Curves over time; `most` is the top of the axis, `dashed` the legend of the one that is a limit."""
    panel = _described(timeseries.Panel(), title, unit, shows, advice, width, height=8)
    panel.min(0).fill_opacity(40 if stacked else 10).show_points(common.VisibilityMode.NEVER)
    panel.tooltip(_all_of_them())
    legend = common_builders.VizLegendOptions().show_legend(True).placement(common.LegendPlacement.BOTTOM)
    panel.legend(legend.display_mode(common.LegendDisplayMode.TABLE).calcs(["mean", "max", "lastNotNull"]))
    if stacked:
        panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
    if most is not None:
        panel.max(most)
    if dashed:
        style = dashboard.DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [10, 10]})
        panel.override_by_name(dashed, [style, dashboard.DynamicConfigValue(id_val="custom.fillOpacity", value=0)])
    for target in _targets(queries):
        panel.with_target(target.range().exemplar(exemplars))
    return panel


def number(title: str, unit: str, shows: str, advice: str, query: str, *steps: Step, width: int = 3) -> Panel:
    """The latest figure, coloured by `steps`, before its curve."""
    panel = _described(stat.Panel(), title, unit, shows, advice, width, height=4)
    panel.graph_mode(common.BigValueGraphMode.AREA).text_mode(common.BigValueTextMode.VALUE)
    panel.color_mode(common.BigValueColorMode.VALUE)
    panel.reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    panel.thresholds(_thresholds(steps or (Step(None, "blue"),)))
    for target in _targets({"": query}):
        panel.with_target(target.range())
    return panel


def heat(title: str, unit: str, shows: str, advice: str, query: str, *, width: int = 24) -> Panel:
    """How a histogram's buckets fill over time; the unit is that of the axis."""
    panel = _described(heatmap.Panel(), title, unit, shows, advice, width, height=10)
    panel.calculate(False).y_axis(heatmap.YAxisConfig().unit(unit).decimals(DECIMALS.get(unit, 1)))
    colour = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Spectral").steps(64)
    panel.color(colour.exponent(0.5).reverse(True))
    panel.cell_gap(1).filter_values(heatmap.FilterValueRange().le(1e-9))
    panel.mode(common.TooltipDisplayMode.SINGLE).show_y_histogram()
    for target in _targets({"{{le}}": query}):
        panel.with_target(target.range().format(PromQueryFormat.HEATMAP).exemplar(True))
    return panel


def states(
    title: str,
    unit: str,
    shows: str,
    advice: str,
    queries: Mapping[str, str],
    texts: Mapping[str, tuple[str, str]],
    *,
    width: int = 24,
) -> Panel:
    """What is in which state when; `texts` has the text and the colour of each value."""
    panel = _described(statetimeline.Panel(), title, unit, shows, advice, width, height=8)
    mapping = dashboard.ValueMap()
    for index, (value, (text, colour)) in enumerate(texts.items()):
        mapping.options[value] = dashboard.ValueMappingResult(text=text, color=colour, index=index)
    panel.mappings([mapping]).show_value(common.VisibilityMode.NEVER).row_height(0.8).fill_opacity(70)
    panel.tooltip(_all_of_them())
    for target in _targets(queries):
        panel.with_target(target.range())
    return panel


def rows(
    title: str,
    unit: str,
    shows: str,
    advice: str,
    queries: Mapping[str, str],
    *,
    columns: Mapping[str, str],
    width: int = 24,
) -> Panel:
    """The latest labels and figures as a table; `columns` renames fields in their order, those left out are hidden.

    The figure of a query is the field "Value", or "Value #A", "Value #B" and so on where there are several.
    """
    panel = _described(table.Panel(), title, unit, shows, advice, width, height=8)
    panel.filterable(True)
    for target in _targets(queries):
        panel.with_target(target.instant().format(PromQueryFormat.TABLE))
    panel.with_transformation(dashboard.DataTransformerConfig(id_val="merge", options={}))
    shown = {"include": {"names": list(columns)}}
    panel.with_transformation(dashboard.DataTransformerConfig(id_val="filterFieldsByName", options=shown))
    order = {"indexByName": {name: index for index, name in enumerate(columns)}, "renameByName": dict(columns)}
    panel.with_transformation(dashboard.DataTransformerConfig(id_val="organize", options=order))
    return panel


def _described(panel: Kind, title: str, unit: str, shows: str, advice: str, width: int, height: int) -> Kind:
    panel.title(title).description(f"{shows}\n\n{advice}")
    panel.unit(unit).decimals(DECIMALS.get(unit, 1))
    return panel.datasource(SOURCE).span(width).height(height)


def _targets(queries: Mapping[str, str]) -> list[prometheus.Dataquery]:
    return [
        prometheus.Dataquery().datasource(SOURCE).expr(expression).legend_format(legend).ref_id(chr(ord("A") + index))
        for index, (legend, expression) in enumerate(queries.items())
    ]


def _thresholds(steps: tuple[Step, ...]) -> dashboard_builders.ThresholdsConfig:
    thresholds = [dashboard.Threshold(value=step.start, color=step.colour) for step in steps]
    return dashboard_builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(thresholds)


def _all_of_them() -> common_builders.VizTooltipOptions:
    return common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
