"""Migrations only add, so that the release before runs on the schema of this one.

An upgrade migrates first and replaces the pods then, and a rollback leaves the schema as it is:
both let older code meet a newer schema. What has to go goes one release later, when nobody uses it.
"""

from __future__ import annotations

import re

import pytest

from psm.projections.schema.migrate import Migration, packaged

_TAKES = {
    "drops": r"\bDROP (?!TRIGGER|FUNCTION)",
    "renames": r"\bRENAME\b",
    "changes a type": r"\bALTER (COLUMN )?\S+ (SET DATA )?TYPE\b",
    "demands a value of a column": r"\bSET NOT NULL\b",
    "demands a value of a new column": (
        r"\bADD (COLUMN )?(?!CONSTRAINT|PRIMARY|CHECK|UNIQUE|FOREIGN)[^,;]*\bNOT NULL\b"
        r"(?![^,;]*\b(DEFAULT|GENERATED)\b)"
    ),
    "takes a default": r"\bDROP DEFAULT\b",
    "forbids what was allowed": r"\bADD (CONSTRAINT|PRIMARY|CHECK|UNIQUE|FOREIGN|EXCLUDE)\b",
    "removes rows": r"^(TRUNCATE|DELETE)\b",
    "changes rows": r"^UPDATE\b",
    "takes rights": r"\bREVOKE\b",
}
_BEFORE = {"0011_market.sql": {"drops", "forbids what was allowed"}}
"""Of a table that the same file makes; nobody had it before."""


def takes(sql: str) -> set[str]:
    """Return what statements of a migration take from code that does not know of it."""
    statements = re.sub(r"--[^\n]*", "", re.sub(r"\$(\w*)\$.*?\$\1\$", "", sql, flags=re.DOTALL))
    found = set()
    for statement in statements.split(";"):
        text = " ".join(statement.split())
        if text.upper().startswith("CREATE TABLE"):
            continue
        found |= {name for name, what in _TAKES.items() if re.search(what, text, re.IGNORECASE)}
    return found


@pytest.mark.parametrize("migration", packaged(), ids=lambda migration: migration.name)
def test_a_migration_only_adds(migration: Migration) -> None:
    """None takes anything from the code of the release before."""
    assert takes(migration.sql) == _BEFORE.get(migration.name, set())


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("ALTER TABLE a DROP COLUMN b;", "drops"),
        ("DROP TABLE a", "drops"),
        ("DROP INDEX a_b", "drops"),
        ("DROP VIEW a", "drops"),
        ("ALTER TABLE a RENAME COLUMN b TO c", "renames"),
        ("ALTER TABLE a RENAME TO c", "renames"),
        ("ALTER TABLE a ALTER COLUMN b TYPE bigint", "changes a type"),
        ("ALTER TABLE a ALTER b SET DATA TYPE bigint", "changes a type"),
        ("ALTER TABLE a ALTER COLUMN b SET NOT NULL", "demands a value of a column"),
        ("ALTER TABLE a ADD COLUMN b text NOT NULL", "demands a value of a new column"),
        ("ALTER TABLE a\n  ADD b text NOT NULL,\n ADD c int", "demands a value of a new column"),
        ("ALTER TABLE a ALTER COLUMN b DROP DEFAULT", "takes a default"),
        ("ALTER TABLE a ADD CONSTRAINT b CHECK (c > 0)", "forbids what was allowed"),
        ("ALTER TABLE a ADD PRIMARY KEY (b)", "forbids what was allowed"),
        ("TRUNCATE a", "removes rows"),
        ("DELETE FROM a WHERE b", "removes rows"),
        ("UPDATE a SET b = 1", "changes rows"),
        ("REVOKE SELECT ON a FROM b", "takes rights"),
    ],
)
def test_what_takes_is_seen(sql: str, what: str) -> None:
    """Each way to break older code that this test knows."""
    assert what in takes(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TABLE a (b text NOT NULL PRIMARY KEY, UNIQUE (b));",
        "ALTER TABLE a ADD COLUMN b text;",
        "ALTER TABLE a ADD COLUMN b text NOT NULL DEFAULT '', ADD COLUMN c int;",
        "CREATE INDEX a_b ON a (b); -- DROP TABLE a",
        "GRANT SELECT ON a TO b",
        "CREATE FUNCTION f() RETURNS trigger AS $$ BEGIN DELETE FROM a; END $$ LANGUAGE plpgsql;",
    ],
)
def test_what_adds_is_let_through(sql: str) -> None:
    """Tables, columns that may be left out, indexes, rights, functions."""
    assert takes(sql) == set()
