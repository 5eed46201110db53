"""Named plans: a worker killed at each step of a batch, and known failures from Faust's issue trackers.

A name is the symptom; the comment gives the issue number (faust-streaming, `r` for robinhood) and the cause.
"""

from chaos.run import RunPlan

NTH_VISIT = "2"  # number of the visit to a step; with exactly-once a batch is committed by the second one
STEPS = (
    "fetched",
    "partitions acquired",
    "scored",
    "part sent",  # of decisions, dead letters and panes: in the middle of a pane flush
    "produced",  # but not committed
    "committed",
)

KILL_SCENARIOS = {
    f"killed when {step}": RunPlan(
        transactions=6_000, kill_at=(step, "1" if step == "partitions acquired" else NTH_VISIT), seed=n, rate=1_500
    )
    for n, step in enumerate(STEPS)
} | {
    "killed in a swap": RunPlan(transactions=8_000, promotions=2, kills=2, calm_s=1.0, seed=20, rate=1_500),
    "killed in a rebalance": RunPlan(
        transactions=8_000, rebalances=1, workers=1, kill_at=("partitions acquired", "2"), seed=21, rate=1_500
    ),
}

SCENARIOS = {
    # 502: acked but uncommitted offsets are dropped on revocation, before the commit
    "processed twice after a rebalance": RunPlan(transactions=12_000, rebalances=3, seed=502, rate=1_000),
    # 606: with several batches in flight a later offset is committed
    "committed past a message in flight": RunPlan(
        transactions=8_000, workers=1, kill_at=("scored", "2"), seed=606, rate=1_500
    ),
    # 527: offsets are lost after an exception
    "offsets lost after a failure": RunPlan(
        transactions=8_000, workers=1, kill_at=("produced", "2"), kills=1, seed=527, rate=1_500
    ),
    # 385: windows are never expired after a rebalance; ours are panes, which must equal the recount
    "windows wrong after a rebalance": RunPlan(transactions=12_000, rebalances=2, kills=1, seed=385, rate=1_000),
    # 221: records fetched before a rebalance are delivered after records fetched later
    "out of order after a rebalance": RunPlan(transactions=12_000, rebalances=2, workers=1, seed=221, rate=1_000),
    # 318: a partition that returns after two rebalances is never committed again
    "back after two rebalances": RunPlan(transactions=14_000, rebalances=2, workers=1, calm_s=6, seed=318, rate=1_000),
    # 323, r517, 177, 136: duplicates among committed records; an open transaction hangs the next owner (47)
    "duplicates among committed records": RunPlan(transactions=12_000, kills=4, rebalances=1, seed=323, rate=1_000),
    "open transaction left behind": RunPlan(
        transactions=8_000, workers=1, kill_at=("part sent", "4"), seed=47, rate=1_500
    ),
    # r736: offsets are never committed again after the broker closes its connections
    "broker connections reset": RunPlan(transactions=12_000, restarts=2, seed=736, rate=300),
    # r625: a duplicate among the acked offsets stops commits permanently; here a batch that is read twice
    "commits stall on a repeat": RunPlan(transactions=10_000, kills=3, calm_s=1.0, seed=625, rate=300),
    # 175, 640, 523: consumers stop without an error; here an outage longer than the request timeout
    "consumers die without an error": RunPlan(transactions=10_000, restarts=1, outage_s=40, seed=175, rate=300),
    # r517: a worker that was idle beyond the poll interval hangs when it gets a partition
    "idle worker stuck": RunPlan(transactions=10_000, workers=3, partitions=2, kills=3, seed=517, rate=1_000),
    # a new model cannot be stored: the previous one continues to decide until there is space again
    "disk full": RunPlan(transactions=25_000, full_disks=2, seed=28, rate=1_000),
    # a zombie: paused beyond the session timeout, its partitions reassigned, then resumed
    "zombie woken": RunPlan(transactions=20_000, pauses=1, seed=1, rate=500),
    # retention deletes records that paused workers have not read: the rest is decided, the deleted ones are counted
    "retention passes a worker": RunPlan(
        transactions=8_000, retentions=2, offset_reset="skip-and-count", calm_s=2, seed=110, rate=1_000, profiles=False
    ),
    # the group's offsets expire while no worker runs: nothing is decided twice or skipped
    "offsets expire": RunPlan(transactions=8_000, expiries=2, seed=111, rate=1_000),
    # the committed offsets are beyond the end: everything is decided again, with the same ids
    "committed beyond the end": RunPlan(
        transactions=6_000, truncations=1, offset_reset="from-beginning", workers=1, seed=112, rate=1_000
    ),
}
