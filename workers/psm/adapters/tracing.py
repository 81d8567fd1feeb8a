"""Trace context: taken from NATS headers, carried on, and recorded where a collector is set.

Without a collector a span is one context variable that keeps the producer's `traceparent`, so
the identity of a trace still reaches every log line and every header; nothing is recorded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from opentelemetry import trace
from opentelemetry.trace import Link, SpanContext, TraceFlags
from opentelemetry.util.types import AttributeValue

HEADER = "traceparent"

_LINKS_MAX = 128
_FORM = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_parent: ContextVar[str | None] = ContextVar("psm_traceparent", default=None)
_tracer: trace.Tracer | None = None


def use(tracer: trace.Tracer | None) -> None:
    """Record spans with `tracer`; None records nothing."""
    global _tracer
    _tracer = tracer


def extract(traceparent: str | None) -> SpanContext | None:
    """Return the span that `traceparent` names, or None when it is absent or malformed."""
    match = _FORM.fullmatch(traceparent or "")
    if match is None or match[0].startswith("ff"):
        return None
    context = SpanContext(
        trace_id=int(match[1], 16),
        span_id=int(match[2], 16),
        is_remote=True,
        trace_flags=TraceFlags(int(match[3], 16)),
    )
    return context if context.is_valid else None


@contextmanager
def child_span(
    name: str,
    traceparent: str | None = None,
    attributes: Mapping[str, AttributeValue] | None = None,
    links: Iterable[str | None] = (),
) -> Iterator[None]:
    """Run the block as part of the trace that `traceparent` names, else of the current one.

    Args:
        name: of the span, such as `psm.commit`.
        traceparent: W3C header of whatever caused the work.
        attributes: of the span; small closed values, never payloads.
        links: headers of further causes, for work done once for many messages; where there is
            one alone, the work is part of its trace.
    """
    if _tracer is None:
        token = _parent.set(traceparent or _parent.get())
        try:
            yield
        finally:
            _parent.reset(token)
        return
    causes = list(dict.fromkeys(filter(None, links)))
    if traceparent is None and len(causes) == 1:
        traceparent = causes.pop()
    parent = extract(traceparent)
    context = (
        trace.set_span_in_context(trace.NonRecordingSpan(parent)) if parent is not None else None
    )
    with _tracer.start_as_current_span(
        name, context=context, attributes=attributes, links=_links(causes)
    ):
        yield


def inject() -> dict[str, str]:
    """Return the headers that hand the current trace on; empty when there is none."""
    current = _current()
    return {} if current is None else {HEADER: current}


def current_trace_id() -> str | None:
    """Return the 32 hex digits of the current trace, or None."""
    current = _current()
    match = _FORM.fullmatch(current) if current is not None else None
    return match[1] if match else None


def _current() -> str | None:
    if _tracer is None:
        return _parent.get()
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return None
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"


def _links(traceparents: Sequence[str]) -> list[Link]:
    contexts = (extract(traceparent) for traceparent in traceparents[:_LINKS_MAX])
    return [Link(context) for context in contexts if context is not None]
