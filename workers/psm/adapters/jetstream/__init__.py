"""NATS JetStream: connection, ordered reader, leader reads, atomic batches, streams."""

from psm.adapters.jetstream.batch import (
    MAX_BATCH_MESSAGES,
    BatchAck,
    PublishAck,
    publish_atomic,
    publish_expected,
)
from psm.adapters.jetstream.catch_up import CatchUpReader
from psm.adapters.jetstream.connection import ConnectionCounters, connect
from psm.adapters.jetstream.errors import (
    BATCH_DUPLICATE,
    BATCH_INCOMPLETE,
    WRITE_IN_FLIGHT,
    WRONG_LAST_SEQUENCE,
    ApiConfigError,
    ApiConflictError,
    ApiError,
    ApiInvariantError,
    ApiTransientError,
    PermissionRefusedError,
    StreamNotFoundError,
    UnknownOutcomeError,
    UnsendableError,
)
from psm.adapters.jetstream.every import (
    Read,
    move_leader,
    read_every,
    replicas_behind,
    replicas_of,
)
from psm.adapters.jetstream.last_values import last_values
from psm.adapters.jetstream.messages import Outgoing, StoredMessage
from psm.adapters.jetstream.reader import OrderedReader
from psm.adapters.jetstream.reads import (
    StreamInfo,
    direct_get,
    direct_last_for,
    direct_next_for,
    get,
    last_for,
    next_for,
    stream_info,
)
from psm.adapters.jetstream.scans import last_per_subject, read_range
from psm.adapters.jetstream.unread import unread

__all__ = [
    "BATCH_DUPLICATE",
    "BATCH_INCOMPLETE",
    "MAX_BATCH_MESSAGES",
    "WRITE_IN_FLIGHT",
    "WRONG_LAST_SEQUENCE",
    "ApiConfigError",
    "ApiConflictError",
    "ApiError",
    "ApiInvariantError",
    "ApiTransientError",
    "BatchAck",
    "CatchUpReader",
    "ConnectionCounters",
    "OrderedReader",
    "Outgoing",
    "PermissionRefusedError",
    "PublishAck",
    "Read",
    "StoredMessage",
    "StreamInfo",
    "StreamNotFoundError",
    "UnknownOutcomeError",
    "UnsendableError",
    "connect",
    "direct_get",
    "direct_last_for",
    "direct_next_for",
    "get",
    "last_for",
    "last_per_subject",
    "last_values",
    "move_leader",
    "next_for",
    "publish_atomic",
    "publish_expected",
    "read_every",
    "read_range",
    "replicas_behind",
    "replicas_of",
    "stream_info",
    "unread",
]
