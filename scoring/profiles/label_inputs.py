"""What the reducer reads of labels from the topic: entity and time of the labelled transactions, as hashes."""

from collections.abc import Sequence

import numpy as np

from schemas.records import Label
from scoring.profiles.label_store import LabelInputs
from scoring.profiles.profile_inputs import hashes
from scoring.profiles.profile_plan import ProfilePlan


def label_inputs(plan: ProfilePlan, labels: Sequence[Label]) -> LabelInputs:
    """The labels that name the time and an entity of their transaction, in their order."""
    names = tuple(dict.fromkeys(p.entity for p in plan.profiles if p.kind == "labels"))
    usable = [r for r in labels if r.event_time_ms is not None and any(r.entities and n in r.entities for n in names)]
    return LabelInputs(
        entities={name: hashes([(r.entities or {}).get(name) for r in usable]) for name in names},
        event_time_ms=np.array([r.event_time_ms for r in usable], dtype=np.int64),
        reported_at_ms=np.array([r.reported_at_ms for r in usable], dtype=np.int64),
        fraud=np.array([r.fraud for r in usable], dtype=np.bool_),
        ids=hashes([r.transaction_id for r in usable]),
    )
