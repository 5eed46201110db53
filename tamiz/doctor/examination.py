"""Runs every check over the facts. A check that fails does not stop the others. Pure."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from schemas.configuration.settings import Settings
from schemas.security.sanitizer import without_credentials
from tamiz.doctor import cluster_checks, host_checks, topic_checks
from tamiz.doctor.check_result import Finding, not_checked, problem
from tamiz.doctor.facts import Facts, Unknown

_OF_CLUSTER = (
    topic_checks.topics_exist,
    topic_checks.partitions,
    topic_checks.record_sizes,
    topic_checks.retention,
    topic_checks.cleanup,
    topic_checks.replication,
    topic_checks.rights,
    cluster_checks.readable_configuration,
    cluster_checks.offset_retention,
    cluster_checks.committed_offsets,
    cluster_checks.group_rights,
    cluster_checks.internal_replication,
)
_OF_SETTINGS = (
    host_checks.kafka_exposure,
    host_checks.registry_exposure,
    host_checks.channels_exposure,
)


def examine(settings: Settings, facts: Facts) -> list[Finding]:
    """The findings, in the order of the checks."""
    found: list[Finding] = []
    cluster, registry, machine = facts.cluster, facts.registry, facts.machine
    if isinstance(cluster, Unknown):
        found.append(problem("cluster", cluster.reason, "set TAMIZ_BOOTSTRAP_SERVERS, or start the brokers"))
    else:
        for check in _OF_CLUSTER:
            found += _run_check(check.__name__, partial(check, settings, cluster))
        found += _run_check("clocks", lambda: cluster_checks.clocks(settings, cluster, facts.now_ms))
        if not isinstance(machine, Unknown):
            found += _run_check("compression", lambda: topic_checks.compression(settings, cluster, machine.codecs))
    if isinstance(registry, Unknown):
        found.append(problem("registry", registry.reason, "set TAMIZ_MLFLOW_TRACKING_URI, or start the server there"))
    else:
        found += _run_check("champion", lambda: host_checks.champion(settings, registry))
    for of_settings in _OF_SETTINGS:
        found += _run_check(of_settings.__name__, partial(of_settings, settings))
    if isinstance(machine, Unknown):
        found.append(not_checked("this machine", machine.reason))
    else:
        for of_machine in (host_checks.web_exposure, host_checks.state_folder, host_checks.libraries):
            found += _run_check(of_machine.__name__, partial(of_machine, settings, machine))
    return found


def _run_check(name: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except Exception as error:  # a cluster may return anything; the other checks must still run
        yield not_checked(
            name.replace("_", " "), without_credentials(f"the check failed: {type(error).__name__}: {error}")
        )
