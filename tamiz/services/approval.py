"""What the page asks of the model registry, and what a person does there: just what `tamiz models` does."""

from monitoring.drift.reference import DriftReference, load_reference
from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.errors import ModelUnavailableError
from schemas.promotion_log import VersionTransition
from stream_app.dashboard.messages import PromotionReply, Waiting
from stream_app.dashboard.registry_poller import Registry
from stream_app.worker.champion_cache import ChampionCache
from tamiz.services.event_publisher import publish_event
from training.registry import mlflow_registry as registered
from training.registry import version_transitions
from training.registry.promotion import promote_manually


def registry(settings: Settings) -> Registry:
    """The registry as the page sees it."""
    store = ChampionCache(settings, load_dataset(settings.dataset))

    def reference(version: int) -> DriftReference:
        return load_reference(store.folder(version))

    def report(version: int) -> bytes:
        return registered.read_artifact(settings, registered.run_id_of(settings, version), registered.REPORT)

    def approve(version: int, reason: str, actor: str) -> PromotionReply:
        answers = _waiting_move(settings, version)
        return _told(settings, promote_manually(settings, version, reason, by=actor, answers=answers))

    def reject(version: int, reason: str, actor: str) -> PromotionReply:
        answers = _waiting_move(settings, version)
        return _told(settings, version_transitions.reject(settings, version, reason, by=actor, answers=answers))

    return Registry(
        reference=reference,
        waiting=lambda: waiting(settings),
        disagreement=lambda: version_transitions.alias_disagreement(settings),
        report=report,
        approve=approve,
        reject=reject,
    )


def waiting(settings: Settings) -> list[Waiting]:
    """Versions that wait for a person, newest first. Raises ModelUnavailableError when the registry cannot be
    reached.
    """
    return [
        Waiting(
            version=v.version,
            since_ms=v.last.event(settings.model_name).happened_at_ms,
            reason=v.last.reason,
            correlation_id=v.last.correlation_id,
        )
        for v in _waiting(settings)
        if v.last is not None
    ]


def _waiting(settings: Settings) -> list[version_transitions.Version]:
    return [
        v
        for v in version_transitions.versions(settings)
        if v.status == "challenger" and v.last is not None and v.last.change == "awaiting-approval"
    ]


def _waiting_move(settings: Settings, version: int) -> int:
    """Number of the move by which a version waits: of two answers to it one holds.

    Raises ModelUnavailableError when somebody else was a moment earlier, or the page is an old one.
    """
    for found in _waiting(settings):
        if found.version == version:
            return found.last_number
    raise ModelUnavailableError(f"{settings.model_name} version {version} does not wait for a person any more")


def _told(settings: Settings, move: VersionTransition) -> PromotionReply:
    warning = publish_event(settings, [move.event(settings.model_name)])
    return PromotionReply(version=move.version, change=move.change, by=move.by, warning=warning)
