"""A replica that an operator has taken out of writing, or out of service, without ending it."""

from __future__ import annotations

from pathlib import Path

from tests.integration.test_http import EVENT, serving
from tests.support.psm_stream import Account

from psm.workers.api.maintenance import Maintenance


async def test_a_file_stops_writing_then_everything_new_and_nothing_at_hand(
    nats_url: str, postgres_dsn: str, tmp_path: Path
) -> None:
    """Reads go on in each mode; writes and readiness follow the file, without a restart."""
    file = tmp_path / "mode"
    order = {"account_id": "acc_001", "order_id": "1", "symbol": "BTC-PERP"}
    maintenance = Maintenance(file)
    async with serving(nats_url, postgres_dsn, ingest=True, maintenance=maintenance) as api:
        await api.write(Account("acc_001").deposit("10"))
        for word, status, reads in (
            (None, 201, 200),
            ("read-only", 503, 200),
            ("drain", 503, 503),
            ("reed-only", 503, 200),  # whoever wrote it wanted something to stop
            ("open", 200, 200),
        ):
            if word is not None:
                file.write_text(f"{word}\n")
            answer = await api.client.post("/psm/events", json=EVENT)
            assert answer.status_code == status, word
            if status == 503:
                assert answer.json()["type"] == "urn:psm:problem:read-only"
                assert answer.headers["retry-after"]
                await api.problem("/psm/risk/check", 503, method="POST", json={"order": order})
                closed = await api.client.get("/health/ready/ingest")
                assert closed.status_code == 503
            assert (await api.client.get("/psm/state/acc_001")).status_code == 200
            assert (await api.client.get("/health/ready/reads")).status_code == reads
            assert (await api.client.get("/health/live")).status_code == 200
            dry = {"order": order, "dry_run": True}
            answer = await api.client.post("/psm/risk/check", json=dry)
            assert answer.json()["type"] == "urn:psm:problem:no-risk-engine"  # it was passed on
        file.unlink()
        file.mkdir()
        assert (await api.client.post("/psm/events", json=EVENT)).status_code == 503
