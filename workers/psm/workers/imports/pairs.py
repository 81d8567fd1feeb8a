"""Pairs of crypto venues, whose symbols run base and quote together."""

from __future__ import annotations

from psm.workers.imports.facts import Found, VenueInstrument
from psm.workers.imports.rows import FileRow

# The longest that fits counts, so that `BTCUSDT` is no `BTCUSD` quoted in `T`.
QUOTES = (
    "FDUSD", "USDT", "USDC", "BUSD", "TUSD", "USDP", "USDE", "DAI", "USD", "EUR", "GBP", "TRY",
    "BRL", "JPY", "AUD", "BIDR", "RUB", "UAH", "NGN", "ZAR", "PLN", "RON", "ARS", "MXN", "IDRT",
    "BTC", "ETH", "BNB", "TRX", "XRP", "DOGE", "SOL",
)  # fmt: skip


def pair_of(symbol: str, row: FileRow) -> tuple[str, str]:
    """Return base and quote of a symbol like `BTCUSDT`.

    Raises:
        FileRowError: it ends in no asset that pairs are quoted in.
    """
    fitting = [quote for quote in QUOTES if symbol.endswith(quote) and len(symbol) > len(quote)]
    if not fitting:
        raise row.error(
            f"{symbol} ends in no quote asset that is known; add the venue's file of instruments, "
            "or define the symbol first",
            "symbol",
        )
    quote = max(fitting, key=len)
    return symbol[: -len(quote)], quote


def spot(found: Found, symbol: str, row: FileRow, venue: str) -> VenueInstrument:
    """Return what a spot pair is, taken over from the files or from its name."""
    known = found.instruments.get(symbol)
    if known is None:
        base, quote = pair_of(symbol, row)
        known = VenueInstrument(
            symbol=symbol, kind="spot", base=base, quote=quote, settle=quote, venue=venue
        )
        found.instruments[symbol] = known
    return known


def perpetual(found: Found, name: str, row: FileRow, venue: str, *, inverse: bool = False) -> str:
    """Return the symbol of a perpetual contract, `BTCUSDT-PERP` for `BTCUSDT`.

    The venue has a spot pair of the same name, and a symbol is one instrument.
    """
    symbol = name if "PERP" in name else f"{name}-PERP"
    if symbol not in found.instruments:
        base, quote = pair_of(name.replace("_PERP", "").replace("PERP", "USDC"), row)
        found.instruments[symbol] = VenueInstrument(
            symbol=symbol,
            kind="inverse_perp" if inverse else "linear_perp",
            base=base,
            quote=quote,
            settle=base if inverse else quote,
            venue=venue,
        )
    return symbol
