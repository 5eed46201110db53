"""Everything that the checks judge, gathered once. No part can keep the others from being gathered."""

import time
from collections.abc import Callable
from typing import TypeVar

from schemas.configuration.settings import Settings
from schemas.security.sanitizer import printable, without_credentials
from tamiz.doctor.cluster_facts import cluster_facts
from tamiz.doctor.facts import Facts, Unknown
from tamiz.doctor.host_facts import machine_facts, registry_facts

T = TypeVar("T")


def gather(settings: Settings, stage: Callable[[str], None] = lambda name: None) -> Facts:
    """Ask the cluster, the registry and this machine. stage: told what is asked now."""
    stage("asking the cluster …")
    cluster = _survived(lambda: cluster_facts(settings))
    stage("asking the registry …")
    registry = _survived(lambda: registry_facts(settings))
    return Facts(
        cluster=cluster,
        registry=registry,
        machine=_survived(lambda: machine_facts(settings)),
        now_ms=time.time_ns() // 1_000_000,
    )


def _survived(ask: Callable[[], T | Unknown]) -> T | Unknown:
    try:
        return ask()
    except Exception as error:  # whatever a library raises of a server that answers oddly
        return Unknown(printable(without_credentials(f"{type(error).__name__}: {error}"), 300))
