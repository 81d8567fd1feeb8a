"""Logins of PostgreSQL as they follow from the addresses of the parts."""

from __future__ import annotations

import pytest

from psm.contracts.errors import ConfigError
from psm.projections.schema.roles import LOGINS, login_of, roles_sql


def test_a_login_is_what_its_address_says() -> None:
    """User and password are decoded, and the password is never shown."""
    login = login_of("api", "postgresql://psm_api:p%40ss%3Aword@host:5432/psm?sslmode=require")
    assert (login.user, login.password) == ("psm_api", "p@ss:word")
    assert "p@ss" not in repr(login)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://host/psm",
        "postgresql://psm_api@host/psm",
        "postgresql://:secret@host/psm",
        "postgresql://psm_api:pässword@host/psm",
        "postgresql://psm_api:%00secret@host/psm",
        "postgresql://psm_api:secret@[host/psm",
        "nonsense",
    ],
)
def test_an_address_without_a_user_is_refused(address: str) -> None:
    """The text names the part, and shows nothing of the address."""
    with pytest.raises(ConfigError, match="the address of api must be") as refused:
        login_of("api", address)
    assert "secret" not in str(refused.value)


def test_every_role_of_a_login_is_made() -> None:
    """The table in Python and the SQL name the same roles."""
    made = {role for roles in LOGINS.values() for role in roles}
    assert all(f"'{role}'" in roles_sql() for role in made)
    assert roles_sql().count("'psm_") == len(made)
