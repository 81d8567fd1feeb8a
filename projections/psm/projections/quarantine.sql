-- Entries of a quarantine; `{table}` is that of the projection.

-- name: keys
SELECT partition, view, key FROM {table};

-- name: entries
SELECT
    partition, view, key, stream_id, first_sequence_number, sequence_number, log_sequence,
    column_name, sqlstate, found_at
FROM {table}
ORDER BY found_at, view, key
LIMIT $1;

-- name: clear
DELETE FROM {table} WHERE view = $1 AND key = $2;

-- Two partitions must not both open the last entry that there is room for.

-- name: lock
LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE;

-- name: put
INSERT INTO {table} (
    partition, view, key, stream_id, first_sequence_number, sequence_number, log_sequence,
    column_name, sqlstate
) VALUES ($1, $2, $3, $4, $5, $5, $6, $7, $8)
ON CONFLICT (view, key) DO UPDATE SET
    sequence_number = excluded.sequence_number, log_sequence = excluded.log_sequence,
    column_name = excluded.column_name, sqlstate = excluded.sqlstate;

-- One column alone, converted and not stored.

-- name: try_column
SELECT count(*) FROM json_populate_recordset(NULL::{{view}}, $1::json);
