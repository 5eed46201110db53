"""What the reducer reads of labels from the topic: entity and time of the labelled transactions, as hashes."""

from collections.abc import Sequence

import numpy as np

from schemas.records import Label
from scoring.arrays import Hashes
from scoring.input.text_parsing import parse_categories, parse_identifiers
from scoring.profiles.profile_inputs import hashes
from scoring.profiles.profile_plan import ProfilePlan
from scoring.profiles.shared.label_store import LabelInputs


def label_inputs(plan: ProfilePlan, labels: Sequence[Label]) -> LabelInputs:
    """The labels that name the time and an entity of their transaction, in their order.

    Labels of reviewers who are not sure are left out.
    Texts are cleaned as in transactions, so that " Shop" in one and "Shop" in the other are the same entity.
    """
    names = tuple(dict.fromkeys(p.entity for p in plan.profiles if p.kind == "labels"))
    columns = {name: _hashes(plan, name, labels) for name in names}
    known = np.zeros(len(labels), dtype=np.bool_)
    for column in columns.values():
        known |= column != 0
    rows = [
        i for i in np.flatnonzero(known).tolist() if labels[i].event_time_ms is not None and labels[i].fraud is not None
    ]
    usable = [labels[i] for i in rows]
    return LabelInputs(
        entities={name: column[rows] for name, column in columns.items()},
        event_time_ms=np.array([r.event_time_ms for r in usable], dtype=np.int64),
        reported_at_ms=np.array([r.reported_at_ms for r in usable], dtype=np.int64),
        fraud=np.array([r.fraud for r in usable], dtype=np.bool_),
        ids=hashes([r.transaction_id for r in usable]),
    )


def _hashes(plan: ProfilePlan, name: str, labels: Sequence[Label]) -> Hashes:
    texts = [r.entities.get(name) if r.entities else None for r in labels]
    missing = frozenset(plan.missing[name])
    if name == plan.key:
        return hashes(parse_identifiers(texts, missing)[0])
    return hashes(parse_categories(texts, missing)[0].tolist())
