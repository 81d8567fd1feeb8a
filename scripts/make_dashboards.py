"""Writes the dashboards of `k8s/psm/dashboards`, as Grafana imports them, from short definitions.

`python -m scripts.make_dashboards` writes them, `--check` fails where one is not as it would be
written. In an expression `@` stands for the labels that choose a release, `%` for those of what
rules record.
"""

from __future__ import annotations

import json
import sys
from typing import Any, NamedTuple

from scripts.made import ROOT, settle

FOLDER = ROOT / "k8s/psm/dashboards"
_OWN = 'namespace=~"$namespace", pod=~"$release-.*"'
_RECORDED = 'namespace=~"$namespace", release=~"$release"'
_WIDTH, _HEIGHT, _ACROSS = 8, 7, 3


class Panel(NamedTuple):
    """One panel.

    Attributes:
        title: above it.
        unit: as Grafana names it.
        queries: expression by the legend of its lines.
        sparse: why it may have no data in a release that is well; None where it always has.
    """

    title: str
    unit: str
    queries: dict[str, str]
    sparse: str | None = None


def _quantiles(metric: str, extra: str = "") -> dict[str, str]:
    chosen = f"{extra}, @" if extra else "@"
    return {
        f"p{name}": f"histogram_quantile({q}, sum by (le) (rate({metric}_bucket{{{chosen}}}[5m])))"
        for name, q in (("50", "0.5"), ("99", "0.99"), ("99.9", "0.999"))
    }


OVERVIEW = (
    Panel("Partitions without a worker", "short", {"": "min(psm_partitions_unowned{@})"}),
    Panel("The log can be written", "short", {"": "min(psm_log_writable{@})"}),
    Panel("Ready", "short", {"{{pod}}": "min by (pod) (psm_ready{@})"}),
    Panel(
        "Events folded",
        "ops",
        {"{{outcome}}": "sum by (outcome) (rate(psm_events_folded_total{@}[5m]))"},
    ),
    Panel("Updates committed", "ops", {"": "sum(rate(psm_updates_published_total{@}[5m]))"}),
    Panel("Publish to update", "s", _quantiles("psm_event_latency_seconds")),
    Panel("Commit to row", "s", _quantiles("psm_row_latency_seconds", 'view="current_state"')),
    Panel(
        "Lag",
        "s",
        {
            "worker": "max(psm_consumer_lag_seconds{@})",
            "views": "max(psm_projection_lag_seconds{@})",
            "archive": "max(psm_archive_lag_seconds{@})",
            "risk": "max(psm_risk_lag_seconds{@})",
        },
    ),
    Panel(
        "Accounts that wait", "short", {"{{status}}": "max by (status) (psm_accounts_waiting{@})"}
    ),
    Panel(
        "Requests",
        "reqps",
        {"{{status}}": "sum by (status) (rate(psm_http_request_duration_seconds_count{@}[5m]))"},
    ),
    Panel("Time of requests", "s", _quantiles("psm_http_request_duration_seconds")),
    Panel(
        "Requests refused",
        "ops",
        {"{{reason}}": "sum by (reason) (rate(psm_http_denied_total{@}[5m]))"},
        sparse="counts from the first request that is refused",
    ),
    Panel(
        "Processor",
        "short",
        {"{{pod}}": "sum by (pod) (rate(process_cpu_seconds_total{@}[5m]))"},
    ),
    Panel("Memory", "bytes", {"{{pod}}": "sum by (pod) (process_resident_memory_bytes{@})"}),
    Panel(
        "Event loop late, p99",
        "s",
        {
            "{{pod}}": "histogram_quantile(0.99, sum by (pod, le) "
            "(rate(psm_loop_delay_seconds_bucket{@}[5m])))"
        },
    ),
    Panel(
        "Open files",
        "percentunit",
        {"{{pod}}": "max by (pod) (process_open_fds{@} / process_max_fds{@})"},
    ),
    Panel(
        "Connections to PostgreSQL",
        "short",
        {"{{pod}} {{state}}": "sum by (pod, state) (psm_postgres_connections{@})"},
    ),
    Panel(
        "Incidents of connections to NATS, 1 h",
        "short",
        {"{{kind}}": "sum by (kind) (increase(psm_nats_incidents_total{@}[1h]))"},
    ),
    Panel(
        "Store of the brokers",
        "bytes",
        {
            "{{server}} used": "max by (server) (psm_broker_store_bytes{@})",
            "{{server}} limit": "max by (server) (psm_broker_store_limit_bytes{@})",
        },
    ),
    Panel(
        "Days until a broker is full",
        "d",
        {"{{server}}": "psm:broker_store:days_until_full{%}"},
        sparse="only while the store grows",
    ),
    Panel("Database", "bytes", {"": "max(psm_database_size_bytes{@})"}),
    Panel(
        "Days until the database is full",
        "d",
        {"": "psm:database:days_until_full{%}"},
        sparse="only where alerts.databaseBytes is set and the database grows",
    ),
    Panel(
        "Since a job was well",
        "s",
        {"{{task}}": "time() - max by (task) (psm_job_last_success_timestamp_seconds{@})"},
        sparse="from the first audit on",
    ),
    Panel(
        "Certificates expire in",
        "s",
        {"{{pod}}": "min by (pod) (psm_certificate_expires_timestamp_seconds{@}) - time()"},
        sparse="only with TLS",
    ),
    Panel("Objective missed, 1 h", "percentunit", {"{{slo}}": "psm:slo_errors:ratio_rate1h{%}"}),
    Panel(
        "Budget burnt, 1 h",
        "short",
        {"{{slo}}": "psm:slo_errors:ratio_rate1h{%} / on (slo) group_left psm:slo_budget:ratio{%}"},
    ),
    Panel(
        "Versions",
        "short",
        {"{{service}} {{version}}": "count by (service, version) (psm_build_info{@})"},
    ),
)

PARTITION = (
    Panel("Lag", "s", {"{{partition}}": "max by (partition) (psm_consumer_lag_seconds{@})"}),
    Panel("Lag", "short", {"{{partition}}": "max by (partition) (psm_consumer_lag_events{@})"}),
    Panel(
        "Events folded",
        "ops",
        {"{{partition}}": "sum by (partition) (rate(psm_events_folded_total{@}[5m]))"},
    ),
    Panel(
        "Batches",
        "ops",
        {"{{partition}}": "sum by (partition) (rate(psm_batches_committed_total{@}[5m]))"},
    ),
    Panel("Commit", "s", _quantiles("psm_commit_duration_seconds")),
    Panel("Publish to update", "s", _quantiles("psm_event_latency_seconds")),
    Panel(
        "Commits of a batch",
        "short",
        {
            "": "sum(rate(psm_shared_batches_parts_total{@}[5m])) "
            "/ sum(rate(psm_shared_batches_sent_total{@}[5m]))"
        },
    ),
    Panel("Accounts in memory", "short", {"{{pod}}": "sum by (pod) (psm_accounts_in_memory{@})"}),
    Panel(
        "Accounts evicted and returned",
        "ops",
        {"{{way}}": "sum by (way) (rate(psm_accounts_moved_total{@}[5m]))"},
        sparse="from the first eviction on",
    ),
    Panel(
        "Age of checkpoints",
        "s",
        {"{{partition}}": "max by (partition) (psm_checkpoint_age_seconds{@})"},
    ),
    Panel(
        "Snapshots",
        "ops",
        {"{{kind}}": "sum by (kind) (rate(psm_snapshots_written_total{@}[5m]))"},
    ),
    Panel(
        "Last recovery",
        "s",
        {"{{partition}}": "max by (partition) (psm_recovery_duration_seconds{@})"},
    ),
    Panel("Members", "short", {"": "max(psm_fleet_members{@})"}),
    Panel("Partitions", "short", {"{{pod}}": "max by (pod) (psm_partitions_owned{@})"}),
    Panel("Partitions stopped", "short", {"{{pod}}": "max by (pod) (psm_partitions_stopped{@})"}),
    Panel(
        "Members lost, 1 h",
        "short",
        {"{{reason}}": "sum by (reason) (increase(psm_fleet_members_lost_total{@}[1h]))"},
        sparse="from the first loss on",
    ),
    Panel(
        "Commits fenced",
        "ops",
        {"{{partition}}": "sum by (partition) (rate(psm_partitions_fenced_total{@}[5m]))"},
        sparse="from the first on",
    ),
    Panel(
        "Readers that began again, 1 h",
        "short",
        {
            "{{stream}} {{reason}}": "sum by (stream, reason) "
            "(increase(psm_reader_resets_total{@}[1h]))"
        },
        sparse="from the first on",
    ),
    Panel(
        "Compared with the heads",
        "short",
        {"{{result}}": "sum by (result) (psm_heads_checked_total{@})"},
    ),
)

PROJECTION = (
    Panel("Lag", "s", {"{{view}}": "max by (view) (psm_projection_lag_seconds{@})"}),
    Panel("Lag", "short", {"{{view}}": "sum by (view) (psm_projection_lag_events{@})"}),
    Panel("Rows", "ops", {"{{view}}": "sum by (view) (rate(psm_rows_written_total{@}[5m]))"}),
    Panel("Commit to row", "s", _quantiles("psm_row_latency_seconds")),
    Panel("Transaction", "s", _quantiles("psm_projection_commit_duration_seconds")),
    Panel("Stale keys", "short", {"{{view}}": "sum by (view) (psm_projection_quarantined{@})"}),
    Panel(
        "Interruptions, 1 h",
        "short",
        {
            "{{view}} {{reason}}": "sum by (view, reason) "
            "(increase(psm_projection_interrupted_total{@}[1h]))"
        },
        sparse="from the first on",
    ),
    Panel("Stays behind", "short", {"{{what}}": "max by (what) (psm_late{@})"}),
    Panel(
        "Archive, lag", "s", {"{{js_stream}}": "max by (js_stream) (psm_archive_lag_seconds{@})"}
    ),
    Panel(
        "Archive, lag", "short", {"{{js_stream}}": "max by (js_stream) (psm_archive_lag_events{@})"}
    ),
    Panel(
        "Archive, retention used",
        "percentunit",
        {"{{js_stream}}": "max by (js_stream) (psm_archive_retention_used{@})"},
    ),
    Panel(
        "Archive, incidents",
        "short",
        {"": "sum(psm_archive_incidents_total{@})"},
        sparse="from the first on",
    ),
    Panel(
        "Order books",
        "short",
        {"{{state}}": "max by (state) (psm_market_books{@})"},
        sparse="only where depth is recorded",
    ),
    Panel("Order books, longest not synced", "s", {"": "max(psm_market_unsynced_age_seconds{@})"}),
)

RISK = (
    Panel("Slots", "short", {"{{state}}": "sum by (state) (psm_risk_slots{@})"}),
    Panel("Slots without a worker", "short", {"": "min(psm_risk_slots_unowned{@})"}),
    Panel("Workers", "short", {"": "max(psm_risk_fleet_members{@})"}),
    Panel(
        "Decisions",
        "ops",
        {"{{outcome}}": "sum by (outcome) (rate(psm_risk_decisions_total{@}[5m]))"},
    ),
    Panel("Request to decision", "s", _quantiles("psm_risk_decision_duration_seconds")),
    Panel("Write", "s", _quantiles("psm_risk_write_duration_seconds")),
    Panel("Lag", "s", {"": "max(psm_risk_lag_seconds{@})"}),
    Panel("Lag", "short", {"": "max(psm_risk_lag_events{@})"}),
    Panel(
        "Checks that did not pass",
        "ops",
        {"{{check}}": "sum by (check) (rate(psm_risk_checks_failed_total{@}[5m]))"},
        sparse="from the first on",
    ),
    Panel("Records", "ops", {"{{kind}}": "sum by (kind) (rate(psm_risk_records_total{@}[5m]))"}),
    Panel(
        "Least headroom",
        "percentunit",
        {"{{check}}": "min by (check) (psm_risk_headroom{@})"},
        sparse="only of limits that came near",
    ),
    Panel(
        "Latches",
        "short",
        {"{{code}}": "max by (code) (psm_risk_latches{@})"},
        sparse="from the first on",
    ),
    Panel(
        "Limits that are near",
        "short",
        {"{{check}}": "max by (check) (psm_risk_limits_near{@})"},
        sparse="from the first on",
    ),
    Panel(
        "Alerts, 1 h",
        "short",
        {"{{code}}": "sum by (code) (increase(psm_risk_alerts_total{@}[1h]))"},
    ),
    Panel("Accounts not known", "short", {"": "max(psm_risk_accounts_unknown{@})"}),
    Panel("Age of owner records", "s", {"": "max(psm_risk_owner_record_age_seconds{@})"}),
    Panel(
        "Last takeover", "s", {"{{pod}}": "max by (pod) (psm_risk_takeover_duration_seconds{@})"}
    ),
    Panel(
        "Writes not stored",
        "ops",
        {"": "sum(rate(psm_risk_writes_not_stored_total{@}[5m]))"},
        sparse="from the first on",
    ),
    Panel(
        "Commands of accounts without a group",
        "ops",
        {"": "sum(rate(psm_risk_commands_ungrouped_total{@}[5m]))"},
        sparse="from the first on",
    ),
    Panel(
        "Age of clusters",
        "s",
        {"": "max(psm_risk_clusters_age_seconds{@})"},
        sparse="from the first day's clusters on",
    ),
)

ACCOUNTS = (
    Panel(
        "Accounts that wait", "short", {"{{status}}": "max by (status) (psm_accounts_waiting{@})"}
    ),
    Panel(
        "Events that changed nothing, 1 h",
        "short",
        {
            "{{outcome}} {{reason}}": "sum by (outcome, reason) "
            "(increase(psm_events_refused_total{@}[1h]))"
        },
        sparse="from the first on",
    ),
    Panel(
        "Reports compared, 1 h",
        "short",
        {"{{result}}": "sum by (result) (increase(psm_reports_compared_total{@}[1h]))"},
        sparse="from the first report on",
    ),
    Panel(
        "Accounts by partition",
        "short",
        {"{{partition}}": "max by (partition) (psm_accounts_in_memory{@})"},
    ),
    Panel(
        "Live answers",
        "ops",
        {"{{outcome}}": "sum by (outcome) (rate(psm_live_reads_answered_total{@}[5m]))"},
    ),
    Panel(
        "Time for live answers",
        "percentunit",
        {"{{pod}}": "sum by (pod) (rate(psm_live_reads_time_seconds_total{@}[5m]))"},
    ),
    Panel(
        "Reads of accounts",
        "reqps",
        {"{{route}}": "sum by (route) (rate(psm_http_request_duration_seconds_count{@}[5m]))"},
    ),
    Panel(
        "Time of reads, p99",
        "s",
        {
            "{{route}}": "histogram_quantile(0.99, sum by (route, le) "
            "(rate(psm_http_request_duration_seconds_bucket{@}[5m])))"
        },
    ),
)

_API = "${api}/psm"
_ACCOUNT_LINKS = {
    "State": "/state/${account}",
    "Margin": "/margin/${account}",
    "Events": "/events?account=${account}",
    "Statistics": "/stats/${account}",
}
BOARDS: dict[str, tuple[str, tuple[Panel, ...]]] = {
    "overview": ("PSM: overview", OVERVIEW),
    "partition": ("PSM: partitions and workers", PARTITION),
    "projection": ("PSM: views and archive", PROJECTION),
    "risk": ("PSM: risk", RISK),
    "account": ("PSM: accounts", ACCOUNTS),
}
"""Name -> title, panels."""


def expression(text: str) -> str:
    """Return an expression with the labels that choose a release."""
    return text.replace("@", _OWN).replace("{%}", f"{{{_RECORDED}}}")


def board(name: str) -> dict[str, Any]:
    """Return a dashboard as Grafana imports it."""
    title, panels = BOARDS[name]
    variables = [
        _variable("namespace", "label_values(psm_build_info, namespace)"),
        {
            "name": "release",
            "label": "Release",
            "type": "textbox",
            "query": "psm",
            "current": {"text": "psm", "value": "psm"},
        },
    ]
    links = [{"title": "Others", "type": "dashboards", "tags": ["psm"], "asDropdown": True}]
    if name == "account":
        variables += [_textbox("api", "http://localhost:8004"), _textbox("account", "acc_001")]
        links += [
            {"title": title, "type": "link", "url": _API + path, "targetBlank": True}
            for title, path in _ACCOUNT_LINKS.items()
        ]
    return {
        "uid": f"psm-{name}",
        "title": title,
        "tags": ["psm"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [_DATASOURCE, *variables]},
        "links": links,
        "panels": [_panel(index, panel) for index, panel in enumerate(panels)],
    }


_DATASOURCE = {
    "name": "datasource",
    "label": "Prometheus",
    "type": "datasource",
    "query": "prometheus",
}
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
    }


def _textbox(name: str, value: str) -> dict[str, Any]:
    current = {"text": value, "value": value}
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "textbox",
        "query": value,
        "current": current,
    }


def _panel(index: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(index, _ACROSS)
    made: dict[str, Any] = {
        "id": index + 1,
        "title": panel.title,
        "type": "timeseries",
        "datasource": _SOURCE,
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}},
        "targets": [
            {"refId": chr(ord("A") + place), "expr": expression(text), "legendFormat": legend}
            for place, (legend, text) in enumerate(panel.queries.items())
        ],
    }
    if panel.sparse:
        made["description"] = f"Empty while there is nothing to show: {panel.sparse}."
    return made


def main() -> int:
    """Write the dashboards, or check them; 1 where one differs."""
    boards = {FOLDER / f"{name}.json": json.dumps(board(name), indent=1) + "\n" for name in BOARDS}
    return settle(boards, "defined")


if __name__ == "__main__":
    sys.exit(main())
