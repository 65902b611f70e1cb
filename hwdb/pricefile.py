"""Read prices: what renting a device costs, with date, provider, region, kind and source."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hwdb.figures import FigureTable

#: Kinds of price; `reserved` for a commitment whose length is another, or not known.
PRICE_KINDS = ("on_demand", "reserved", "reserved_1y", "reserved_3y", "spot")
_DATE = re.compile(r"20\d\d(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?")


@dataclass(frozen=True)
class Price:
    """One price of renting a device, as a provider or a market report prints it.

    Attributes:
        device: name of the device. node: name of the node that is rented as a whole, "" where the price is per device.
        usd_per_hour: US dollars per hour and device.
        printed: US dollars per hour as the source prints them, for `per` devices.
        kind: one of `PRICE_KINDS`.
        date: when the source gave the price: year, month or day ("2026", "2026-05", "2026-05-17").
        assumed: True for a working value that no page prints.
    """

    device: str
    usd_per_hour: float
    provider: str
    region: str
    kind: str
    date: str
    source: str
    node: str = ""
    printed: float = 0.0
    per: int = 1
    assumed: bool = False
    note: str = ""


def read_prices(table: FigureTable) -> list[Price]:
    """Read the prices of a file, which holds a `provider` and a list of `[[price]]`.

    `InputError` where it is malformed.
    """
    table.text("type", "prices", choices=("prices",))
    provider = table.text("provider")
    rows = table.tables("price", None)
    table.done()
    if not rows:
        raise table.error("", "the file holds no prices; write at least one [[price]]")
    return [_read_price(row, provider) for row in rows]


def _read_price(row: FigureTable, provider: str) -> Price:
    """Read one entry `[[price]]` of a price file."""
    printed, per = row.number("usd_per_hour", above=0.0, unit="US dollars"), row.whole("per", 1, least=1)
    date = row.text("date")
    if not _DATE.fullmatch(date):
        raise row.error("date", f'{date!r} is not a date; write "2026-05" or "2026-05-17"')
    price = Price(
        device=row.text("device"),
        usd_per_hour=printed / per,
        provider=provider,
        region=row.text("region", "any"),
        kind=row.text("kind", choices=PRICE_KINDS),
        date=date,
        source=row.source(),
        node=row.text("node", ""),
        printed=printed,
        per=per,
        assumed=row.flag("assumed", False),
        note=row.text("note", ""),
    )
    row.done()
    return price
