"""What the page asks of the model registry, and what a person does there: just what `tamiz models` does."""

from monitoring.reference import Reference, load_reference
from schemas.dataset import load_dataset
from schemas.errors import ModelUnavailable
from schemas.promotion_log import Move
from schemas.settings import Settings
from stream_app.dashboard.known import Registry
from stream_app.dashboard.state import Verdict, Waiting
from stream_app.model_store import ModelStore
from tamiz.announcing import announce
from training import moves
from training import registry as registered
from training.promotion import promote_by_hand


def registry(settings: Settings) -> Registry:
    """The registry as the page sees it."""
    store = ModelStore(settings, load_dataset(settings.dataset))

    def reference(version: int) -> Reference:
        return load_reference(store.folder(version))

    def report(version: int) -> bytes:
        return registered.artifact(settings, registered.run_of(settings, version), registered.REPORT)

    def approve(version: int, reason: str, actor: str) -> Verdict:
        answers = _waiting_move(settings, version)
        return _told(settings, promote_by_hand(settings, version, reason, by=actor, answers=answers))

    def reject(version: int, reason: str, actor: str) -> Verdict:
        answers = _waiting_move(settings, version)
        return _told(settings, moves.reject(settings, version, reason, by=actor, answers=answers))

    return Registry(
        reference=reference,
        waiting=lambda: waiting(settings),
        disagreement=lambda: moves.alias_disagreement(settings),
        report=report,
        approve=approve,
        reject=reject,
    )


def waiting(settings: Settings) -> list[Waiting]:
    """Versions that wait for a person, newest first. Raises ModelUnavailable when the registry cannot be reached."""
    return [
        Waiting(
            version=v.version,
            since_ms=v.last.event(settings.model).happened_at_ms,
            reason=v.last.reason,
            loop_id=v.last.loop_id,
        )
        for v in _waiting(settings)
        if v.last is not None
    ]


def _waiting(settings: Settings) -> list[moves.Version]:
    return [
        v
        for v in moves.versions(settings)
        if v.standing == "challenger" and v.last is not None and v.last.change == "awaiting-approval"
    ]


def _waiting_move(settings: Settings, version: int) -> int:
    """Number of the move by which a version waits: of two answers to it one holds.

    Raises ModelUnavailable when somebody else was a moment earlier, or the page is an old one.
    """
    for found in _waiting(settings):
        if found.version == version:
            return found.last_number
    raise ModelUnavailable(f"{settings.model} version {version} does not wait for a person any more")


def _told(settings: Settings, move: Move) -> Verdict:
    warning = announce(settings, [move.event(settings.model)])
    return Verdict(version=move.version, change=move.change, by=move.by, warning=warning)
