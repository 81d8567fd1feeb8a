"""Every metric PSM has, in one place, and the only way to record one.

A method takes what one batch did and records it at once: a record costs about ten microseconds,
so nothing is recorded per event. Labels are closed sets (partition, outcome, view, reason);
account ids are never labels. Exposed names are `psm_<what>_<unit>[_total]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from opentelemetry.metrics import Meter

DURATION_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0)
"""Seconds. Each objective of `docs/slo.md` is one of them: between two a quantile is a guess."""

Labels = dict[str, str | int]


@cache
def _partition(partition: int) -> Labels:
    return {"partition": partition}


class Metrics:
    """The instruments of one process."""

    def __init__(self, meter: Meter) -> None:
        self._folded = meter.create_counter(
            "psm.events.folded", description="Messages of the log folded, by outcome."
        )
        self._refused = meter.create_counter(
            "psm.events.refused",
            description="Messages that changed nothing, by outcome and reason.",
        )
        self._compared = meter.create_counter(
            "psm.reports.compared",
            description="Reports of accounts compared with their books, by result.",
        )
        self._batches = meter.create_counter(
            "psm.batches.committed", description="Atomic batches acknowledged."
        )
        self._sent = meter.create_counter(
            "psm.shared_batches.sent", description="Batches that a worker sent, by outcome."
        )
        self._parts = meter.create_counter(
            "psm.shared_batches.parts",
            description="Commits of partitions in these batches, by the batch's outcome.",
        )
        self._updates = meter.create_counter(
            "psm.updates.published", description="State changes committed."
        )
        self._commit = meter.create_histogram(
            "psm.commit.duration",
            unit="s",
            description="From sending a batch to its acknowledgement.",
            explicit_bucket_boundaries_advisory=DURATION_BUCKETS,
        )
        self._latency = meter.create_histogram(
            "psm.event.latency",
            unit="s",
            description="From the log's time of a batch's oldest event to its commit.",
            explicit_bucket_boundaries_advisory=DURATION_BUCKETS,
        )
        self._lag_events = meter.create_gauge(
            "psm.consumer.lag_events", description="Messages in the log not yet committed."
        )
        self._lag_seconds = meter.create_gauge(
            "psm.consumer.lag", unit="s", description="Age of the oldest message not committed."
        )
        self._fenced = meter.create_counter(
            "psm.partitions.fenced", description="Commits refused because another worker won."
        )
        self._resets = meter.create_counter(
            "psm.reader.resets", description="Times an ordered reader started over, by reason."
        )
        self._snapshots = meter.create_counter(
            "psm.snapshots.written",
            description="Account snapshots, records and checkpoints, by kind.",
        )
        self._unsaved = meter.create_gauge(
            "psm.checkpoint.age",
            unit="s",
            description="Since the last checkpoint, while an account waits for one; else 0.",
        )
        self._accounts = meter.create_gauge(
            "psm.accounts.in_memory", description="Accounts a partition has in memory."
        )
        self._accounts_moved = meter.create_counter(
            "psm.accounts.moved",
            description="Idle accounts evicted from memory, and returned from their snapshots.",
        )
        self._live_reads = meter.create_counter(
            "psm.live_reads.answered", description="Live reads of a worker, by outcome."
        )
        self._live_seconds = meter.create_counter(
            "psm.live_reads.time", unit="s", description="Time a worker spent on live answers."
        )
        self._recovery = meter.create_gauge(
            "psm.recovery.duration", unit="s", description="How long the last recovery took."
        )
        self._heads = meter.create_counter(
            "psm.heads.checked", description="Comparisons of the log with its heads, by result."
        )
        self._members = meter.create_gauge(
            "psm.fleet.members", description="Workers of the fleet, as this one sees it."
        )
        self._owned = meter.create_gauge(
            "psm.partitions.owned", description="Partitions this worker has live."
        )
        self._unowned = meter.create_gauge(
            "psm.partitions.unowned", description="Partitions nobody runs, as this worker sees it."
        )
        self._members_lost = meter.create_counter(
            "psm.fleet.members_lost", description="Workers found dead by this one, by reason."
        )
        self._projection_events = meter.create_gauge(
            "psm.projection.lag_events", description="Updates a view has not applied."
        )
        self._projection_seconds = meter.create_gauge(
            "psm.projection.lag", unit="s", description="Age of the oldest update not applied."
        )
        self._quarantined = meter.create_gauge(
            "psm.projection.quarantined",
            description="Keys of a view that are stale, because a row could not be stored.",
        )
        self._interrupted = meter.create_counter(
            "psm.projection.interrupted",
            description="Times that a view's follower had to begin again, by view and reason.",
        )
        self._row_latency = meter.create_histogram(
            "psm.row.latency",
            unit="s",
            description="From the commit of a transaction's oldest update to its row.",
            explicit_bucket_boundaries_advisory=DURATION_BUCKETS,
        )
        self._rows = meter.create_counter(
            "psm.rows.written", description="View rows written, by view."
        )
        self._projection_commit = meter.create_histogram(
            "psm.projection.commit.duration",
            unit="s",
            description="One transaction of rows and checkpoint.",
            explicit_bucket_boundaries_advisory=DURATION_BUCKETS,
        )
        self._archive_events = meter.create_gauge(
            "psm.archive.lag_events", description="Messages of a stream not archived yet."
        )
        self._archive_seconds = meter.create_gauge(
            "psm.archive.lag", unit="s", description="Age of the oldest of them."
        )
        self._archive_retention = meter.create_gauge(
            "psm.archive.retention_used",
            description="That age as a share of what the stream keeps; 1 loses messages.",
        )
        self._archive_incidents = meter.create_counter(
            "psm.archive.incidents", description="Incidents recorded beside the archive."
        )
        self._ticks = meter.create_counter(
            "psm.ticks.read", description="Ticks read for marks, by outcome: taken or refused."
        )
        self._marks = meter.create_counter(
            "psm.marks.appended",
            description="Marks sampled from ticks: first, interval, move, or duplicate.",
        )
        self._marks_lag = meter.create_gauge(
            "psm.marks.lag_events", description="Ticks not yet read for marks."
        )
        self._log_writable = meter.create_gauge(
            "psm.log.writable",
            description="1 while the canary's write beside the log works, else 0.",
        )
        self._broker_faults = meter.create_gauge(
            "psm.broker.store_failed", description="1 while a broker says that its store fails."
        )
        self._broker_store = meter.create_gauge(
            "psm.broker.store_used", description="Share of its limit that a broker's store uses."
        )
        self._broker_bytes = meter.create_gauge(
            "psm.broker.store", unit="By", description="Bytes that a broker's store has."
        )
        self._broker_limit = meter.create_gauge(
            "psm.broker.store_limit", unit="By", description="Bytes that it may have."
        )
        self._replicas = meter.create_gauge(
            "psm.replicas.not_current", description="Replicas of a stream that stay behind."
        )
        self._stopped = meter.create_gauge(
            "psm.partitions.stopped", description="Partitions here that stopped for good."
        )
        self._late = meter.create_gauge(
            "psm.late", description="Partitions whose commits or views stay behind, by what."
        )
        self._certificates = meter.create_gauge(
            "psm.certificate.expires_timestamp",
            unit="s",
            description="Unix time at which the certificate that a server showed expires.",
        )
        self._denied = meter.create_counter(
            "psm.http.denied", description="Requests that access control refused, by reason."
        )
        self._granted = meter.create_counter(
            "psm.http.granted",
            description="Requests that access control let pass and always tells of, by right.",
        )
        self._requests = meter.create_histogram(
            "psm.http.request.duration",
            unit="s",
            description="HTTP requests, by route and status.",
            explicit_bucket_boundaries_advisory=DURATION_BUCKETS,
        )

    def certificate_shown(self, server: str, expires: float) -> None:
        """Record when the certificate of `nats` or `postgres` expires, at each connection."""
        self._certificates.set(expires, {"server": server})

    def folded(self, partition: int, outcomes: Mapping[str, int]) -> None:
        """Count the outcomes of a batch."""
        for outcome, count in outcomes.items():
            self._folded.add(count, {"partition": partition, "outcome": outcome})

    def refused(self, reasons: Mapping[tuple[str, str], int]) -> None:
        """Count messages that changed nothing, by outcome and reason."""
        for (outcome, reason), count in reasons.items():
            self._refused.add(count, {"outcome": outcome, "reason": reason})

    def compared(self, results: Mapping[str, int]) -> None:
        """Count reports that were compared: `matches`, `differs`, `not_compared`."""
        for result, count in results.items():
            self._compared.add(count, {"result": result})

    def batch_sent(self, *, parts: int, refused: bool) -> None:
        """Record a worker's batch with the commits of so many partitions, and its answer."""
        labels = {"outcome": "refused" if refused else "stored"}
        self._sent.add(1, labels)
        self._parts.add(parts, labels)

    def committed(
        self, partition: int, *, updates: int, seconds: float, latency_s: float | None = None
    ) -> None:
        """Record an acknowledged batch.

        Args:
            partition: whose.
            updates: how many it carried.
            seconds: from sending to acknowledgement.
            latency_s: from the log's time of its oldest event until now.
        """
        labels = _partition(partition)
        self._batches.add(1, labels)
        self._updates.add(updates, labels)
        self._commit.record(seconds, labels)
        if latency_s is not None:
            self._latency.record(max(latency_s, 0.0), labels)

    def consumer_lag(self, partition: int, *, events: int, seconds: float) -> None:
        """Set how far the commits are behind the log."""
        self._lag_events.set(events, _partition(partition))
        self._lag_seconds.set(max(seconds, 0.0), _partition(partition))

    def fenced(self, partition: int) -> None:
        """Count a batch, snapshot or checkpoint that another worker's writing refused."""
        self._fenced.add(1, _partition(partition))

    def reader_reset(self, stream: str, reason: str) -> None:
        """Count a new start of an ordered reader; `reason` is such as `gap` or `heartbeat`."""
        self._resets.add(1, {"stream": stream, "reason": reason})

    def snapshots_written(
        self, partition: int, *, accounts: int, records: int = 0, checkpoints: int = 0
    ) -> None:
        """Count acknowledged snapshots, records within checkpoints, and checkpoints."""
        counts = {"account": accounts, "record": records, "checkpoint": checkpoints}
        for kind, count in counts.items():
            if count:
                self._snapshots.add(count, {"partition": partition, "kind": kind})

    def checkpoint_age(self, partition: int, seconds: float) -> None:
        """Set since when an account waits for a checkpoint; 0 where none does."""
        self._unsaved.set(seconds, _partition(partition))

    def released(self, partition: int) -> None:
        """Take back what was told of a partition that another worker runs from now on."""
        self.consumer_lag(partition, events=0, seconds=0.0)
        self.accounts_in_memory(partition, 0)
        self.checkpoint_age(partition, 0.0)

    def accounts_in_memory(self, partition: int, accounts: int) -> None:
        """Set how many accounts a partition has in memory."""
        self._accounts.set(accounts, _partition(partition))

    def accounts_evicted(self, partition: int, count: int) -> None:
        """Count idle accounts that were dropped from memory."""
        self._accounts_moved.add(count, {"partition": partition, "way": "evicted"})

    def accounts_returned(self, partition: int, count: int) -> None:
        """Count accounts that came back from their snapshots."""
        self._accounts_moved.add(count, {"partition": partition, "way": "returned"})

    def live_read(self, outcome: str) -> None:
        """Count a live read that a worker was asked for."""
        self._live_reads.add(1, {"outcome": outcome})

    def live_time(self, seconds: float) -> None:
        """Add time that a worker took from folding for a live answer."""
        self._live_seconds.add(seconds)

    def recovered(self, partition: int, *, seconds: float) -> None:
        """Set how long a partition took from nothing to its first new message."""
        self._recovery.set(seconds, _partition(partition))

    def heads_checked(self, partition: int, result: str) -> None:
        """Count a start by its heads: `agreed`, `damaged`, `unavailable`, or `none` are there."""
        self._heads.add(1, {"partition": partition, "result": result})

    def fleet(self, *, members: int, owned: int, unowned: int) -> None:
        """Set what this worker has and sees of the fleet."""
        self._members.set(members)
        self._owned.set(owned)
        self._unowned.set(unowned)

    def member_lost(self, reason: str) -> None:
        """Count a worker found dead: `no_responders` or `expired`."""
        self._members_lost.add(1, {"reason": reason})

    def projection_lag(self, view: str, partition: int, *, events: int, seconds: float) -> None:
        """Set how far a view is behind the updates."""
        labels: Labels = {"view": view, "partition": partition}
        self._projection_events.set(events, labels)
        self._projection_seconds.set(max(seconds, 0.0), labels)

    def quarantined(self, view: str, partition: int, keys: int) -> None:
        """Set how many keys of a view are stale, because a row could not be stored."""
        self._quarantined.set(keys, {"view": view, "partition": partition})

    def projected(
        self, view: str, *, rows: int, seconds: float, latency_s: float | None = None
    ) -> None:
        """Record one committed transaction of a projection; `latency_s` of its oldest update."""
        self._rows.add(rows, {"view": view})
        self._projection_commit.record(seconds, {"view": view})
        if latency_s is not None:
            self._row_latency.record(max(latency_s, 0.0), {"view": view})

    def projection_interrupted(self, view: str, reason: str) -> None:
        """Count a follower's new start; `reason` is such as `fenced` or `away`."""
        self._interrupted.add(1, {"view": view, "reason": reason})

    def archive_lag(
        self, js_stream: str, *, events: int, seconds: float, retention_used: float
    ) -> None:
        """Set how far the archive of one stream is behind it."""
        labels: Labels = {"js_stream": js_stream}
        self._archive_events.set(events, labels)
        self._archive_seconds.set(max(seconds, 0.0), labels)
        self._archive_retention.set(retention_used, labels)

    def archive_incidents(self, count: int) -> None:
        """Count incidents that a transaction of the archiver recorded."""
        self._archive_incidents.add(count)

    def ticks_read(self, *, taken: int, refused: int) -> None:
        """Count ticks that were looked at."""
        for outcome, count in (("taken", taken), ("refused", refused)):
            if count:
                self._ticks.add(count, {"outcome": outcome})

    def mark_appended(self, reason: str) -> None:
        """Count a mark in the log; `duplicate` when somebody had appended it already."""
        self._marks.add(1, {"reason": reason})

    def marks_lag(self, events: int) -> None:
        """Set how many ticks are still to be read."""
        self._marks_lag.set(events)

    def log_writable(self, *, writable: bool) -> None:
        """Set whether the broker takes writes."""
        self._log_writable.set(int(writable))

    def broker_store(self, server: str, *, failed: bool, stored: int, limit: int) -> None:
        """Set what a broker says of its store, in bytes; a `limit` of 0 is none.

        `server` is the host of its monitoring address.
        """
        labels: Labels = {"server": server}
        self._broker_faults.set(int(failed), labels)
        self._broker_store.set(stored / limit if limit else 0.0, labels)
        self._broker_bytes.set(stored, labels)
        self._broker_limit.set(limit, labels)

    def replicas_not_current(self, js_stream: str, count: int) -> None:
        """Set how many replicas of a stream have stayed behind."""
        self._replicas.set(count, {"js_stream": js_stream})

    def partitions_stopped(self, count: int) -> None:
        """Set how many partitions of this worker stopped for good."""
        self._stopped.set(count)

    def late(self, what: str, count: int) -> None:
        """Set how many partitions of `commits` or of a view stay behind."""
        self._late.set(count, {"what": what})

    def denied(self, reason: str) -> None:
        """Count a request that access control refused."""
        self._denied.add(1, {"reason": reason})

    def granted(self, action: str) -> None:
        """Count what access control let pass and always tells of."""
        self._granted.add(1, {"action": action})

    def requested(self, route: str, status: int, seconds: float) -> None:
        """Record an answered request; `route` is the pattern, never the path."""
        self._requests.record(seconds, {"route": route, "status": status})
