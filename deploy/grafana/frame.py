"""What all dashboards have in common: their variables, their links to each other, the grid.

    title, sections of panels -> Dashboard

A section is a heading and the panels under it, which flow from left to right in 24 columns.
"""

from collections.abc import Mapping, Sequence

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import dashboard

from deploy.grafana.panels import SOURCE, Panel

TAG = "figment"

VARIABLES = {
    "model": 'label_values({__name__=~"figment_model_ready|figment_request_seconds_count"}, model)',
    "instance": 'label_values(up{job="figment"}, instance)',
}
"""Queries of the variables by name. Requests for models that are not served have the model `unknown`."""


def framed(name: str, title: str, about: str, sections: Mapping[str, Sequence[Panel]]) -> dashboard.Dashboard:
    """A dashboard with the uid figment-`name`; panels are numbered in their order."""
    frame = (
        builders.Dashboard(f"Figment: {title}")
        .uid(f"{TAG}-{name}")
        .description(about)
        .tags([TAG])
        .editable()
        .timezone("browser")
        .time("now-1h", "now")
        .refresh("10s")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .link(_links())
    )
    for variable, query in VARIABLES.items():
        frame.with_variable(_variable(variable, query))
    for heading, panels in sections.items():
        frame.with_row(builders.Row(heading))
        for panel in panels:
            frame.with_panel(panel)
    made = frame.build()
    for number, panel_or_row in enumerate(made.panels or [], start=1):
        panel_or_row.id_val = number
    return made


def _variable(name: str, query: str) -> builders.QueryVariable:
    everything = dashboard.VariableOption(selected=True, text=["All"], value=["$__all"])
    return (
        builders.QueryVariable(name)
        .label(name.capitalize())
        .datasource(SOURCE)
        .query({"query": query, "refId": name})
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(everything)
    )


def _links() -> builders.DashboardLink:
    return (
        builders.DashboardLink("Figment")
        .type(dashboard.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(False)
        .include_vars(True)
        .keep_time(True)
    )
