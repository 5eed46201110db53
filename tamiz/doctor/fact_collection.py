"""Collects all facts that the checks need. A part that fails does not stop the others."""

import time
from collections.abc import Callable
from typing import TypeVar

from schemas.configuration.settings import Settings
from schemas.security.sanitizer import printable, without_credentials
from tamiz.doctor.cluster_facts import cluster_facts
from tamiz.doctor.facts import MAX_REASON_LENGTH, Facts, Unknown
from tamiz.doctor.host_facts import machine_facts, registry_facts

T = TypeVar("T")


def collect_facts(settings: Settings, stage: Callable[[str], None] = lambda name: None) -> Facts:
    """Collect facts of the cluster, the registry and this machine. stage: called with the name of each step."""
    stage("checking the cluster …")
    cluster = _collect(lambda: cluster_facts(settings))
    stage("checking the registry …")
    registry = _collect(lambda: registry_facts(settings))
    return Facts(
        cluster=cluster,
        registry=registry,
        machine=_collect(lambda: machine_facts(settings)),
        now_ms=time.time_ns() // 1_000_000,
    )


def _collect(request: Callable[[], T | Unknown]) -> T | Unknown:
    try:
        return request()
    except Exception as error:  # libraries raise any exception for an unexpected response
        return Unknown(printable(without_credentials(f"{type(error).__name__}: {error}"), MAX_REASON_LENGTH))
