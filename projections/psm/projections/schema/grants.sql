-- What the catalogue says of grants; to be read by everybody.

-- name: missing
SELECT wanted.role, wanted.privilege, wanted.relation, role.oid IS NULL AS role_missing
FROM unnest($1::text[], $2::text[], $3::text[]) AS wanted (role, privilege, relation)
LEFT JOIN pg_roles AS role ON role.rolname = wanted.role
LEFT JOIN (
    SELECT c.oid,
        CASE WHEN n.nspname = current_schema() THEN '' ELSE n.nspname || '.' END || c.relname AS name
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
) AS found ON found.name = wanted.relation
WHERE role.oid IS NULL OR found.oid IS NULL
    OR NOT has_table_privilege(role.oid, found.oid, wanted.privilege)
ORDER BY 1, 3, 2;

-- name: missing_tables
SELECT name FROM unnest($1::text[]) AS name WHERE to_regclass(name) IS NULL ORDER BY 1;
