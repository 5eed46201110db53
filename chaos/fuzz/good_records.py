"""Valid records of each control topic. Pure."""

import msgspec

from chaos.control_services import FIRST_DAY_MS
from schemas.records import DriftAlert, DriftEvidence, ModelEvent, Redrive, RetrainRequest
from schemas.time_units import DAY_MS

LAST = "the last and good one"


def handmade(model: str, version: int, at_ms: int | None = None) -> list[msgspec.Struct]:
    """Records that no service of this run creates. at_ms: their time; if given, they are the last records."""
    name, at = (LAST, at_ms) if at_ms is not None else ("fuzz", FIRST_DAY_MS)
    evidence = DriftEvidence(
        feature="monto",
        window="24 h",
        psi=0.3,
        psi_lower_bound=0.2,
        tolerance=0.1,
        importance=0.2,
        share=0.5,
        labels=("a", "b"),
        reference=(0.5, 0.5),
        current=(0.2, 0.8),
    )
    return [
        DriftAlert(
            incident_id=name,
            change="opened",
            kind="shift",
            severity="critical",
            model=model,
            model_version=version,
            features=("monto",),
            summary=name,
            opened_at_ms=at,
            happened_at_ms=at,
            evidence=(evidence,),
            examples=("t-0",),
            cards=("card-0",),
        ),
        ModelEvent(
            model=model,
            model_version=version,
            change="promoted",
            reason=name,
            by="chaos",
            happened_at_ms=at,
            correlation_id=None,
        ),
        RetrainRequest(
            correlation_id=name,
            model=model,
            model_version=version,
            cause="manual",
            features=("monto",),
            reason=name,
            from_ms=at - 30 * DAY_MS,
            until_ms=at,
            requested_at_ms=at,
        ),
        Redrive(
            transaction_id="t-0", dead_letter="dead-letters-0-0", consumed_from="transactions-0-0", redriven_at_ms=at
        ),
    ]
