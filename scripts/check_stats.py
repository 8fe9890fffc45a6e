#!/usr/bin/env python3
"""check_stats.py FILE: do the counters that `framewire serve --stats-json FILE` left show that nothing was copied and no frame lost?

Every worker must have all its frames back, no payload byte may have been copied in user space, and each total must be the sum over workers.
"""
import json
import sys


def main():
    with open(sys.argv[1]) as f:
        stats = json.load(f)
    totals, workers = stats["totals"], stats["workers"]
    if not stats["clean"]:
        sys.exit("the engine calls its stop unclean")
    for name in ("bytes_copied_tx", "bytes_copied_rx"):
        if totals[name]:
            sys.exit(f"{name} = {totals[name]}, want 0")
    for i, worker in enumerate(workers):
        frames = worker["frames"]
        if frames["free"] != frames["capacity"]:
            sys.exit(f"worker {i}: {frames['free']} of {frames['capacity']} frames free")
    for name, total in totals.items():
        parts = sum(worker["counters"][name] for worker in workers)
        if total != parts:
            sys.exit(f"{name} = {total}, but {parts} over the workers")
    capacity = stats["ledger"]["capacity"]
    print(
        f"{totals['rx_frames']:,} frames in, {totals['tx_frames']:,} out, 0 payload bytes copied, "
        f"all {capacity:,} frames of memory back"
    )


if __name__ == "__main__":
    main()
