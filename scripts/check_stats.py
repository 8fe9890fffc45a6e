#!/usr/bin/env python3
"""check_stats.py FILE: do the counters that `framewire serve --stats-json FILE` left show that nothing was copied and no frame lost?

Looks at every object in the file: each bytes_copied_tx and bytes_copied_rx must be 0, each frame ledger
(free, held, capacity) must add up, and each must be there at least once.
"""
import json
import sys


def objects(value):
    if isinstance(value, dict):
        yield value
        for v in value.values():
            yield from objects(v)
    elif isinstance(value, list):
        for v in value:
            yield from objects(v)


def main():
    with open(sys.argv[1]) as f:
        found = list(objects(json.load(f)))
    for name in ("bytes_copied_tx", "bytes_copied_rx"):
        values = [o[name] for o in found if name in o]
        if not values:
            sys.exit(f"{name} is not in the statistics")
        if any(values):
            sys.exit(f"{name} = {sum(values)}, want 0")
    ledgers = [o for o in found if {"free", "held", "capacity"} <= o.keys()]
    if not ledgers:
        sys.exit("no frame ledger in the statistics")
    for o in ledgers:
        if o["free"] + o["held"] != o["capacity"]:
            sys.exit(f"ledger does not add up: {o['free']} free + {o['held']} held of {o['capacity']}")
    capacity = sum(o["capacity"] for o in ledgers)
    print(f"0 bytes copied, {capacity:,} frames accounted for in {len(ledgers)} pools")


if __name__ == "__main__":
    main()
