-- What the doctor asks of the database itself.

-- name: facts
SELECT current_setting('server_version') AS version, current_database() AS name,
    pg_database_size(current_database()) AS bytes,
    pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on' AS read_only;
