"""What gc and the site's processes keep below ``gc/``, by one listing."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from ...keys import CLAIM, CONTROL, LEASE, LEDGER, LOCKED, PLAN, WITNESS
from ...objectstore.interfaces import IObjectStore, Listed

_DIGITS = 12  # of a lease's number: at one a minute enough for two million years


@dataclass
class Control:
    """``leases`` by number; everything else by key below its folder. ``now``: the store's time of the listing."""

    now: datetime
    ledger: Listed | None = None
    locked: Listed | None = None
    leases: dict[int, Listed] = field(default_factory=dict)
    claims: dict[str, Listed] = field(default_factory=dict)
    plans: dict[str, Listed] = field(default_factory=dict)
    witnesses: dict[str, Listed] = field(default_factory=dict)

    @property
    def generation(self) -> int:
        """The number of the newest lease; 0 where there never was one."""
        return max(self.leases, default=0)


def read_control(store: IObjectStore) -> Control:
    """One request where there are less than a thousand objects."""
    listed = list(store.list(CONTROL))
    control = Control(store.now())
    for line in listed:
        folder, name = line.key[: line.key.rfind("/") + 1], line.key.rpartition("/")[2]
        if line.key == LEDGER:
            control.ledger = line
        elif line.key == LOCKED:
            control.locked = line
        elif folder == LEASE and len(name) == _DIGITS and name.isascii() and name.isdigit():
            control.leases[int(name)] = line
        elif folder == CLAIM:
            control.claims[name] = line
        elif folder == PLAN:
            control.plans[name] = line
        elif folder == WITNESS:
            control.witnesses[name] = line
    return control


def lease_key(number: int) -> str:
    return f"{LEASE}{number:0{_DIGITS}d}"
