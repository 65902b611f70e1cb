"""What renting a device costs: dated, with provider, region, kind and source."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hwdb.table import Table

PRICE_KINDS = ("on_demand", "reserved", "spot")


@dataclass(frozen=True)
class Price:
    """One price. usd_per_hour: of one device. printed: as the source prints it, for `per` devices.

    date: "2026-05" or "2026-05-17", when the source said so. assumed: a working value that no page states.
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


def read_prices(table: Table) -> list[Price]:
    """The prices of a file: a `provider` and a list of `[[price]]`; `InputError` where it is malformed."""
    table.text("type", "prices", among=("prices",))
    provider = table.text("provider")
    rows = table.tables("price")
    table.done()
    if not rows:
        table.fail("price", [], "no prices; write at least one [[price]]")
    return [_price(row, provider) for row in rows]


def _price(row: Table, provider: str) -> Price:
    printed, per = row.number("usd_per_hour"), row.whole("per", 1)
    date = row.text("date")
    if not re.fullmatch(r"20\d\d(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?", date):
        row.fail("date", date, 'not a date; write "2026-05" or "2026-05-17"')
    assumed = row.get("assumed")
    if assumed not in (None, True, False):
        row.fail("assumed", assumed, "not true or false")
    price = Price(
        device=row.text("device"),
        usd_per_hour=printed / per,
        provider=provider,
        region=row.text("region", "any"),
        kind=row.text("kind", among=PRICE_KINDS),
        date=date,
        source=row.source(row.text("source")),
        node=row.text("node", ""),
        printed=printed,
        per=per,
        assumed=bool(assumed),
        note=row.text("note", ""),
    )
    row.done()
    return price
