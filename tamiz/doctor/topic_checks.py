"""Checks of topics: partitions, record size, retention, cleanup policy, replication, rights. Pure."""

from collections.abc import Iterator, Mapping

from schemas.configuration.settings import Settings
from schemas.time_units import DAY_MS
from schemas.topics import Topic, topic_table
from tamiz.doctor.check_result import Finding, not_checked, ok, problem, warning
from tamiz.doctor.facts import ClusterFacts, TopicFacts, Unknown

DEFAULT_MAX_MESSAGE_BYTES = 1_048_588  # of Kafka
MIN_OUTPUT_BYTES = 65_536  # of a record: a decision with its headers, an alert, a truncated dead letter
PANE_DAYS = 8  # read by the monitor at its start
MONTH_DAYS = 35  # read by a monthly report
COMPACTED = {
    "redrives": "it is read as a table of redriven ids",
    "rules": "rules must outlive retention",
    "lists": "entries of lists must outlive retention",
    "rule-statistics": "the state of the monitor must outlive retention",
    "drift-panes": "cursors must outlive retention",
}
EVENTS = (
    "transactions",
    "labels",
    "decisions",
    "feature-log",
    "profile-tiles",
    "rule-activations",
    "dead-letters",
)  # every record counts, not only the last one per key
EVIDENCE = ("decisions", "feature-log", "rule-activations")  # what a dispute is answered with
ONE_PARTITION = (
    "redrives",
    "rules",
    "lists",
    "rule-statistics",
    "drift-reports",
    "drift-alerts",
    "retrain-requests",
    "model-events",
)
NEEDED = {  # operations on each topic, and the programs that need them; docs/deployment.md has the same by program
    "transactions": {
        "READ": "worker, monitor, retrainer, dashboard, redrive, explain, rules, shadow, features",
        "WRITE": "redrive",
    },
    "decisions": {"WRITE": "worker", "READ": "worker, monitor, dashboard, explain, rules, archive"},
    "feature-log": {
        "WRITE": "worker",
        "READ": "monitor, retrainer, dashboard, explain, rules, shadow, features, archive",
    },
    "dead-letters": {"WRITE": "worker, notifier", "READ": "worker, dashboard, redrive"},
    "redrives": {"WRITE": "redrive", "READ": "redrive"},
    "labels": {"WRITE": "dashboard", "READ": "worker, monitor, retrainer, dashboard, rules, features"},
    "profile-tiles": {"WRITE": "worker", "READ": "worker"},
    "rules": {"READ": "worker, monitor, dashboard, explain, rules", "WRITE": "dashboard, rules"},
    "lists": {"READ": "worker, dashboard, explain, rules, lists", "WRITE": "dashboard, lists"},
    "rule-activations": {"WRITE": "worker", "READ": "worker, explain, archive"},
    "rule-statistics": {"WRITE": "monitor", "READ": "monitor, dashboard"},
    "drift-panes": {"WRITE": "worker", "READ": "worker, monitor, dashboard, drift"},
    "drift-reports": {"WRITE": "monitor", "READ": "monitor, dashboard"},
    "drift-alerts": {"WRITE": "monitor", "READ": "notifier, dashboard, lists"},
    "retrain-requests": {"WRITE": "monitor, retrain", "READ": "retrainer"},
    "model-events": {"WRITE": "retrainer, dashboard, models", "READ": "worker, retrainer, notifier, dashboard"},
}


def topics_exist(settings: Settings, cluster: ClusterFacts) -> Iterator[Finding]:
    """Every topic exists."""
    absent = [t.name for t in topic_table(settings) if t.name not in cluster.topics]
    if absent:
        yield problem(
            "topics",
            f"missing, or no right to describe: {', '.join(absent)}",
            "`tamiz topics create`, or grant DESCRIBE",
        )
    else:
        yield ok("topics", f"all {len(cluster.topics)} exist")


def partitions(settings: Settings, cluster: ClusterFacts) -> Iterator[Finding]:
    """Partitions agree with one another and with the settings."""
    for topic, facts in _existing(settings, cluster):
        check, n = "partitions", facts.partitions
        if topic.role in ONE_PARTITION and n != 1:
            yield problem(
                check,
                f"{n}, but its readers need a total order",
                "recreate the topic with 1 partition",
                subject=topic.name,
            )
        elif n != topic.partitions:
            remedy = f"set TAMIZ_PARTITIONS={n} if intended; docs/deployment.md explains how to add partitions"
            yield warning(check, f"{n}, by the settings {topic.partitions}", remedy, subject=topic.name)
        else:
            yield ok(check, str(n), subject=topic.name)


def record_sizes(settings: Settings, cluster: ClusterFacts) -> Iterator[Finding]:
    """Output records fit their topics."""
    largest_in = _max_bytes(cluster.topics.get(settings.transactions_topic))
    for topic, config in _configured(settings, cluster):
        check, found = "record size", int(config.get("max.message.bytes", DEFAULT_MAX_MESSAGE_BYTES))
        needed = int(topic.config.get("max.message.bytes", DEFAULT_MAX_MESSAGE_BYTES))
        if topic.role == "dead-letters":
            needed = max(needed, largest_in or 0)
        seen = f"max.message.bytes is {found:,}"
        if found >= needed - 12:  # Kafka's default is 12 bytes above a mebibyte
            yield ok(check, seen, subject=topic.name)
        elif topic.direction == "in":
            yield ok(check, f"{seen}: the broker rejects larger records", subject=topic.name)
        elif found < MIN_OUTPUT_BYTES:
            yield problem(check, f"{seen}: Tamiz' records do not fit", f"set it to {needed}", subject=topic.name)
        elif topic.role == "dead-letters":
            yield warning(
                check,
                f"{seen}, less than the input allows: larger payloads are truncated",
                f"set it to {needed}",
                subject=topic.name,
            )
        else:
            yield warning(
                check,
                f"{seen}, but Tamiz writes records of up to {needed:,} bytes",
                f"set it to {needed}",
                subject=topic.name,
            )


def retention(settings: Settings, cluster: ClusterFacts) -> Iterator[Finding]:
    """Retention covers what programs read back."""
    training_days = max(7, settings.retrain_lookback_days)
    evidence_days = settings.decision_retention_days
    needed = {
        "transactions": (training_days, "a training reads that many days (retrain_lookback_days)"),
        "feature-log": (training_days, "a training reads that many days (retrain_lookback_days)"),
        "labels": (training_days, "a training reads that many days (retrain_lookback_days)"),
        "decisions": (settings.drift_lookback_days, "the monitor reads that many days (drift_lookback_days)"),
        "rule-activations": (1, "a worker that takes a partition over reads its last one"),
        "drift-panes": (PANE_DAYS, "the monitor reads that many days"),
    }
    for topic, config in _configured(settings, cluster):
        if topic.role not in needed:
            continue
        days, why = needed[topic.role]
        check = "retention"
        if "delete" not in config.get("cleanup.policy", "delete"):
            continue
        retention_ms = int(config.get("retention.ms", 7 * DAY_MS))
        seen = "unlimited" if retention_ms < 0 else f"{retention_ms / DAY_MS:g} days"
        if 0 <= retention_ms < days * DAY_MS:
            yield problem(
                check, f"{seen}, needed {days}: {why}", f"set retention.ms to {days * DAY_MS}", subject=topic.name
            )
        elif topic.role in EVIDENCE and 0 <= retention_ms < evidence_days * DAY_MS:
            yield warning(
                check,
                f"{seen}, but a dispute is to be answered for {evidence_days} (decision_retention_days)",
                f"set retention.ms to {evidence_days * DAY_MS}, or run `tamiz archive` every day and set "
                f"TAMIZ_DECISION_RETENTION_DAYS={retention_ms // DAY_MS}",
                subject=topic.name,
            )
        elif topic.role == "decisions" and 0 <= retention_ms < settings.label_delay_days * DAY_MS:
            delay = (
                f"labels are final after {settings.label_delay_days} (label_delay_days): performance is not measured"
            )
            remedy = f"set retention.ms to {(settings.label_delay_days + 1) * DAY_MS}"
            yield warning(check, f"{seen}, but {delay}", remedy, subject=topic.name)
        elif int(config.get("retention.bytes", -1)) >= 0:
            limit = f"retention.bytes {config['retention.bytes']} may delete sooner"
            yield warning(
                check, f"{seen}, but {limit}", "set retention.bytes to -1 and monitor the disk", subject=topic.name
            )
        elif topic.role == "drift-panes" and 0 <= retention_ms < MONTH_DAYS * DAY_MS:
            yield warning(
                check,
                f"{seen}: a monthly report misses days",
                f"set retention.ms to {MONTH_DAYS * DAY_MS}",
                subject=topic.name,
            )
        else:
            yield ok(check, seen, subject=topic.name)


def cleanup(settings: Settings, cluster: ClusterFacts) -> Iterator[Finding]:
    """Topics read as tables are compacted, streams are not."""
    for topic, config in _configured(settings, cluster):
        policy = config.get("cleanup.policy", "delete")
        check = "cleanup policy"
        if topic.role in COMPACTED and "compact" not in policy:
            remedy = f"set cleanup.policy to {topic.config['cleanup.policy']}"
            yield problem(check, f"{policy}: {COMPACTED[topic.role]}", remedy, subject=topic.name)
        elif topic.role in EVENTS and "compact" in policy:
            yield problem(
                check,
                f"{policy}: only the last record per key is retained",
                "set cleanup.policy to delete",
                subject=topic.name,
            )
        else:
            yield ok(check, policy, subject=topic.name)


def replication(settings: Settings, cluster: ClusterFacts) -> Iterator[Finding]:
    """The loss of one disk loses no data and does not stop writes."""
    for topic, facts in _existing(settings, cluster):
        check = "replication"
        config = facts.config if not isinstance(facts.config, Unknown) else {}
        min_in_sync = int(config.get("min.insync.replicas", 1))
        seen = f"{facts.replicas} replicas, {facts.in_sync} in sync, min.insync.replicas {min_in_sync}"
        if facts.in_sync < min_in_sync or facts.replicas < min_in_sync:
            yield problem(
                check,
                f"{seen}: writes fail",
                "start the missing brokers, or lower min.insync.replicas",
                subject=topic.name,
            )
        elif facts.replicas == 1 and cluster.brokers > 1:
            yield warning(
                check,
                f"{seen}: the loss of one disk loses the data",
                "raise its replication factor to 3",
                subject=topic.name,
            )
        elif facts.replicas >= 3 and min_in_sync < 2:
            yield warning(
                check, f"{seen}: one disk may hold the only replica", "set min.insync.replicas to 2", subject=topic.name
            )
        elif facts.in_sync < facts.replicas:
            yield warning(check, seen, "find out why a replica lags", subject=topic.name)
        elif config.get("unclean.leader.election.enable") == "true":
            seen = "unclean.leader.election.enable: an election may truncate the log"
            yield warning(check, seen, "set it to false on the topic", subject=topic.name)
        else:
            yield ok(check, seen, subject=topic.name)


def rights(settings: Settings, cluster: ClusterFacts) -> Iterator[Finding]:
    """This principal has the rights on each topic that the programs need."""
    for topic, facts in _existing(settings, cluster):
        check = "rights"
        if facts.operations is None:
            yield not_checked(check, "the broker does not return authorized operations", subject=topic.name)
            continue
        lacking = {op: programs for op, programs in NEEDED[topic.role].items() if op not in facts.operations}
        if lacking:
            seen = "; ".join(
                f"no {op}, which {names} need{'' if ',' in names else 's'}" for op, names in lacking.items()
            )
            remedy = "grant it to this principal, if it runs those programs"
            yield (problem if len(lacking) == len(NEEDED[topic.role]) else warning)(check, seen, remedy, topic.name)
        else:
            yield ok(check, " and ".join(NEEDED[topic.role]), subject=topic.name)


def compression(settings: Settings, cluster: ClusterFacts, codecs: Mapping[str, bool]) -> Iterator[Finding]:
    """Every codec that a topic or a producer may choose can be decompressed here."""
    unread = sorted(name for name, readable in codecs.items() if not readable)
    for topic, config in _configured(settings, cluster):
        chosen, check = config.get("compression.type", "producer"), "compression"
        if chosen in unread:
            yield problem(
                check,
                f"{chosen}, but no library to read it is installed",
                "install Tamiz with all its dependencies",
                subject=topic.name,
            )
        elif chosen == "producer" and unread:
            seen = f"set by producers, but no library is installed to read {', '.join(unread)}"
            yield warning(check, seen, "install Tamiz with all its dependencies", subject=topic.name)
        else:
            yield ok(check, chosen, subject=topic.name)


def _existing(settings: Settings, cluster: ClusterFacts) -> Iterator[tuple[Topic, TopicFacts]]:
    for topic in topic_table(settings):
        if (facts := cluster.topics.get(topic.name)) is not None:
            yield topic, facts


def _configured(settings: Settings, cluster: ClusterFacts) -> Iterator[tuple[Topic, Mapping[str, str]]]:
    for topic, facts in _existing(settings, cluster):
        if not isinstance(facts.config, Unknown):
            yield topic, facts.config


def _max_bytes(facts: TopicFacts | None) -> int | None:
    if facts is None or isinstance(facts.config, Unknown):
        return None
    return int(facts.config.get("max.message.bytes", DEFAULT_MAX_MESSAGE_BYTES))
