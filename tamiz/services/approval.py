"""The dashboard's access to the model registry. Approving and rejecting do the same as `tamiz models`."""

from monitoring.drift.reference import DriftReference, load_reference
from schemas.configuration.settings import Settings
from schemas.dataset.declaration import load_dataset
from schemas.errors import ModelUnavailableError
from schemas.promotion_log import VersionTransition
from stream_app.dashboard.messages import PendingApproval, PromotionReply
from stream_app.dashboard.registry_poller import Registry
from stream_app.worker.champion_cache import ChampionCache
from tamiz.services.event_publisher import publish_event
from training.registry import mlflow_registry as registered
from training.registry import version_transitions
from training.registry.promotion import promote_manually


def registry(settings: Settings) -> Registry:
    """The registry's operations for the dashboard."""
    store = ChampionCache(settings, load_dataset(settings.dataset))

    def reference(version: int) -> DriftReference:
        return load_reference(store.folder(version))

    def report(version: int) -> bytes:
        return registered.read_artifact(settings, registered.run_id_of(settings, version), registered.REPORT)

    def approve(version: int, reason: str, actor: str) -> PromotionReply:
        answers = _pending_transition(settings, version)
        return _publish(settings, promote_manually(settings, version, reason, by=actor, answers=answers))

    def reject(version: int, reason: str, actor: str) -> PromotionReply:
        answers = _pending_transition(settings, version)
        return _publish(settings, version_transitions.reject(settings, version, reason, by=actor, answers=answers))

    return Registry(
        reference=reference,
        pending_approvals=lambda: pending_approvals(settings),
        registry_inconsistency=lambda: version_transitions.registry_inconsistency(settings),
        report=report,
        approve=approve,
        reject=reject,
    )


def pending_approvals(settings: Settings) -> list[PendingApproval]:
    """Versions that wait for approval, newest first. Raises ModelUnavailableError if the registry is unreachable."""
    return [
        PendingApproval(
            version=v.version,
            since_ms=v.last.event(settings.model_name).happened_at_ms,
            reason=v.last.reason,
            correlation_id=v.last.correlation_id,
        )
        for v in _pending_versions(settings)
        if v.last is not None
    ]


def _pending_versions(settings: Settings) -> list[version_transitions.Version]:
    return [
        v
        for v in version_transitions.versions(settings)
        if v.status == "challenger" and v.last is not None and v.last.change == "awaiting-approval"
    ]


def _pending_transition(settings: Settings, version: int) -> int:
    """Number of the transition with which a version waits. A decision names it, so that only the first takes effect.

    Raises ModelUnavailableError if it no longer waits: another person decided, or the page is outdated.
    """
    for found in _pending_versions(settings):
        if found.version == version:
            return found.last_number
    raise ModelUnavailableError(f"{settings.model_name} version {version} no longer waits for approval")


def _publish(settings: Settings, move: VersionTransition) -> PromotionReply:
    warning = publish_event(settings, [move.event(settings.model_name)])
    return PromotionReply(version=move.version, change=move.change, by=move.by, warning=warning)
