"""What dashboards are made of here, and how that becomes Grafana's JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import common, prometheus, stat, timeseries
from grafana_foundation_sdk.builders.dashboard import Dashboard as DashboardBuilder
from grafana_foundation_sdk.builders.dashboard import DashboardLink, QueryVariable, ThresholdsConfig
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    VariableRefresh,
)

DATASOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")
"""As `provisioning/datasources` names it."""
WIDTH = 24
"""Columns of Grafana's grid."""


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression, and how its series are called: `{{label}}` is a label's value."""

    expression: str
    legend: str = ""


def quantile(share: float, histogram: str, by: str = "", where: str = "") -> str:
    """The expression for a quantile of a histogram's observations, for each value of the labels `by`."""
    labels = f"le, {by}" if by else "le"
    buckets = f"{histogram}_bucket{{{where}}}" if where else f"{histogram}_bucket"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({buckets}[$__rate_interval])))"


@dataclass(frozen=True, slots=True)
class Graph:
    """Lines over time. `unit` is Grafana's: short, s, percentunit, bytes, ops, reqps."""

    title: str
    answers: str
    """The question that the panel answers, shown behind its (i)."""
    unit: str
    queries: Sequence[Query]
    stacked: bool = False
    width: int = 8


@dataclass(frozen=True, slots=True)
class Number:
    """One value: green, orange from `warns` on, red from `alarms` on; less is worse if `alarms` is less."""

    title: str
    answers: str
    unit: str
    query: Query
    warns: float | None = None
    alarms: float | None = None
    width: int = 4


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Panels in reading order. `per_instance`: a process can be chosen, as `$instance`."""

    name: str
    answers: str
    panels: Sequence[Graph | Number]
    per_instance: str = ""
    """The metric that the choice of instances is taken from; empty: there is none."""

    def json(self) -> str:
        """The file that Grafana reads."""
        board = (
            DashboardBuilder(f"Sessionmesh: {self.name}")
            .uid(f"sessionmesh-{self.name}")
            .description(self.answers)
            .tags(["sessionmesh"])
            .readonly()
            .time("now-6h", "now")
            .refresh("30s")
            .link(
                DashboardLink("Sessionmesh")
                .type(DashboardLinkType.DASHBOARDS)
                .tags(["sessionmesh"])
                .keep_time(keep_time=True)
            )
        )
        if self.per_instance:
            board.with_variable(
                QueryVariable("instance")
                .label("process")
                .datasource(DATASOURCE)
                .query(f"label_values({self.per_instance}, instance)")
                .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
                .multi(multi=True)
                .include_all(include_all=True)
                .all_value(".*")
            )
        for panel in self.panels:
            board.with_panel(_graph(panel) if isinstance(panel, Graph) else _number(panel))
        return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


def _graph(panel: Graph) -> timeseries.Panel:
    made = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.answers)
        .datasource(DATASOURCE)
        .unit(panel.unit)
        .min(0)
        .span(panel.width)
        .height(8)
        .fill_opacity(30 if panel.stacked else 0)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    if panel.stacked:
        made.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    for place, query in enumerate(panel.queries):
        # An exemplar is a point with a trace's id: a click leads to Jaeger.
        made.with_target(_target(query, place).range().exemplar("histogram_quantile" in query.expression))
    return made


def _number(panel: Number) -> stat.Panel:
    return (
        stat.Panel()
        .title(panel.title)
        .description(panel.answers)
        .datasource(DATASOURCE)
        .unit(panel.unit)
        .span(panel.width)
        .height(4)
        .thresholds(ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(_steps(panel.warns, panel.alarms)))
        .with_target(_target(panel.query, 0).instant())
    )


def _target(query: Query, place: int) -> prometheus.Dataquery:
    made = prometheus.Dataquery().expr(query.expression).ref_id("ABCDEFGH"[place]).datasource(DATASOURCE)
    return made.legend_format(query.legend) if query.legend else made


def _steps(warns: float | None, alarms: float | None) -> list[Threshold]:
    """Grafana's first step has no value: it begins at minus infinity."""
    if warns is None or alarms is None:
        return [Threshold(value=None, color="green")]
    if warns <= alarms:
        return [
            Threshold(value=None, color="green"),
            Threshold(value=warns, color="orange"),
            Threshold(value=alarms, color="red"),
        ]
    return [
        Threshold(value=None, color="red"),
        Threshold(value=alarms, color="orange"),
        Threshold(value=warns, color="green"),
    ]
