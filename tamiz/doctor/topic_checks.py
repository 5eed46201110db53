"""Whether each topic is as Tamiz needs it: partitions, size of records, time kept, copies, rights. Pure."""

from collections.abc import Iterator, Mapping

from schemas.configuration.settings import Settings
from schemas.time_units import DAY_MS
from schemas.topics import Topic, topic_table
from tamiz.doctor.check_result import Finding, not_checked, ok, problem, warning
from tamiz.doctor.facts import ClusterFacts, TopicFacts, Unknown

DEFAULT_MAX_MESSAGE_BYTES = 1_048_588  # Kafka's own
MIN_OUTPUT_BYTES = 65_536  # of one record of ours: a decision with its headers, an alert, a letter that was cut
PANE_DAYS = 8  # that the monitor reads when it starts
MONTH_DAYS = 35  # that a monthly report reads
COMPACTED = {"redrives": "it is read as a table of what was sent back", "drift-panes": "cursors must outlive retention"}
EVENTS = ("transactions", "labels", "decisions", "dead-letters")  # every record counts, not the last of each key
ONE_PARTITION = ("redrives", "drift-reports", "drift-alerts", "retrain-requests", "model-events")
NEEDED = {  # operations on each topic, and the programs that need them; docs/deployment.md has the same by program
    "transactions": {
        "READ": "worker, retrainer, dashboard, redrive, explain, shadow",
        "WRITE": "redrive",
        "DESCRIBE": "monitor",
    },
    "decisions": {"WRITE": "worker", "READ": "worker, monitor, dashboard, explain"},
    "dead-letters": {"WRITE": "worker, notifier", "READ": "worker, dashboard, redrive"},
    "redrives": {"WRITE": "redrive", "READ": "redrive"},
    "labels": {"READ": "monitor, retrainer"},
    "drift-panes": {"WRITE": "worker", "READ": "worker, monitor, dashboard, drift"},
    "drift-reports": {"WRITE": "monitor", "READ": "monitor, dashboard"},
    "drift-alerts": {"WRITE": "monitor", "READ": "notifier, dashboard"},
    "retrain-requests": {"WRITE": "monitor, retrain", "READ": "retrainer"},
    "model-events": {"WRITE": "retrainer, dashboard, models", "READ": "worker, retrainer, notifier, dashboard"},
}


def topics_exist(settings: Settings, cluster: ClusterFacts) -> Iterator[Finding]:
    """Every topic of the table is there."""
    absent = [t.name for t in topic_table(settings) if t.name not in cluster.topics]
    if absent:
        yield problem(
            "topics", f"not there, or not ours to see: {', '.join(absent)}", "`tamiz topics create`, or DESCRIBE rights"
        )
    else:
        yield ok("topics", f"all {len(cluster.topics)} are there")


def partitions(settings: Settings, cluster: ClusterFacts) -> Iterator[Finding]:
    """Partitions agree with one another and with the settings."""
    for topic, facts in _there(settings, cluster):
        check, n = "partitions", facts.partitions
        if topic.role in ONE_PARTITION and n != 1:
            yield problem(
                check,
                f"{n}, and its readers need the order of one",
                "make the topic anew with 1 partition",
                subject=topic.name,
            )
        elif n != topic.partitions:
            remedy = f"set TAMIZ_PARTITIONS={n} if that is meant; docs/deployment.md has the order in which to add some"
            yield warning(check, f"{n}, by these settings {topic.partitions}", remedy, subject=topic.name)
        else:
            yield ok(check, str(n), subject=topic.name)


def record_sizes(settings: Settings, cluster: ClusterFacts) -> Iterator[Finding]:
    """What is derived from an input fits its topic."""
    largest_in = _max_bytes(cluster.topics.get(settings.transactions_topic))
    for topic, config in _configured(settings, cluster):
        check, found = "record size", int(config.get("max.message.bytes", DEFAULT_MAX_MESSAGE_BYTES))
        wanted = int(topic.config.get("max.message.bytes", DEFAULT_MAX_MESSAGE_BYTES))
        if topic.role == "dead-letters":
            wanted = max(wanted, largest_in or 0)
        seen = f"max.message.bytes is {found:,}"
        if found >= wanted - 12:  # Kafka's default is 12 bytes above a mebibyte
            yield ok(check, seen, subject=topic.name)
        elif topic.direction == "in":
            yield ok(check, f"{seen}: larger transactions never arrive", subject=topic.name)
        elif found < MIN_OUTPUT_BYTES:
            yield problem(check, f"{seen}: what Tamiz writes does not fit", f"set it to {wanted}", subject=topic.name)
        elif topic.role == "dead-letters":
            yield warning(
                check,
                f"{seen}, less than what may arrive: larger payloads are cut",
                f"set it to {wanted}",
                subject=topic.name,
            )
        else:
            yield warning(
                check,
                f"{seen}, and Tamiz writes records of up to {wanted:,}",
                f"set it to {wanted}",
                subject=topic.name,
            )


def retention(settings: Settings, cluster: ClusterFacts) -> Iterator[Finding]:
    """Records are kept as long as somebody reads back."""
    learn = max(7, settings.retrain_lookback_days)
    wanted = {
        "transactions": (learn, "a training reads so far back (retrain_lookback_days)"),
        "labels": (learn, "a training reads so far back (retrain_lookback_days)"),
        "decisions": (settings.drift_lookback_days, "the monitor reads so far back (drift_lookback_days)"),
        "drift-panes": (PANE_DAYS, "the monitor reads so far back"),
    }
    for topic, config in _configured(settings, cluster):
        if topic.role not in wanted:
            continue
        days, why = wanted[topic.role]
        check = "retention"
        if "delete" not in config.get("cleanup.policy", "delete"):
            continue
        kept_ms = int(config.get("retention.ms", 7 * DAY_MS))
        seen = "kept for good" if kept_ms < 0 else f"kept for {kept_ms / DAY_MS:g} days"
        if 0 <= kept_ms < days * DAY_MS:
            yield problem(
                check, f"{seen}, needed {days}: {why}", f"set retention.ms to {days * DAY_MS}", subject=topic.name
            )
        elif topic.role == "decisions" and 0 <= kept_ms < settings.label_delay_days * DAY_MS:
            delay = f"labels are final after {settings.label_delay_days} (label_delay_days): no performance is measured"
            remedy = f"set retention.ms to {(settings.label_delay_days + 1) * DAY_MS}"
            yield warning(check, f"{seen}, and {delay}", remedy, subject=topic.name)
        elif int(config.get("retention.bytes", -1)) >= 0:
            limit = f"retention.bytes {config['retention.bytes']} may delete sooner"
            yield warning(
                check, f"{seen}, and {limit}", "set retention.bytes to -1, and watch the disk", subject=topic.name
            )
        elif topic.role == "drift-panes" and 0 <= kept_ms < MONTH_DAYS * DAY_MS:
            yield warning(
                check,
                f"{seen}: a monthly report lacks days",
                f"set retention.ms to {MONTH_DAYS * DAY_MS}",
                subject=topic.name,
            )
        else:
            yield ok(check, seen, subject=topic.name)


def cleanup(settings: Settings, cluster: ClusterFacts) -> Iterator[Finding]:
    """Tables are compacted, and streams are not."""
    for topic, config in _configured(settings, cluster):
        policy = config.get("cleanup.policy", "delete")
        check = "cleanup policy"
        if topic.role in COMPACTED and "compact" not in policy:
            remedy = f"set cleanup.policy to {topic.config['cleanup.policy']}"
            yield problem(check, f"{policy}: {COMPACTED[topic.role]}", remedy, subject=topic.name)
        elif topic.role in EVENTS and "compact" in policy:
            yield problem(
                check,
                f"{policy}: of each key only the last record is kept",
                "set cleanup.policy to delete",
                subject=topic.name,
            )
        else:
            yield ok(check, policy, subject=topic.name)


def copies(settings: Settings, cluster: ClusterFacts) -> Iterator[Finding]:
    """One broken disk loses nothing, and does not stop writing."""
    for topic, facts in _there(settings, cluster):
        check = "copies"
        config = facts.config if not isinstance(facts.config, Unknown) else {}
        least = int(config.get("min.insync.replicas", 1))
        seen = f"{facts.replicas} replicas, {facts.in_sync} in sync, min.insync.replicas {least}"
        if facts.in_sync < least or facts.replicas < least:
            yield problem(
                check, f"{seen}: nothing can be written", "start the brokers that lack, or lower it", subject=topic.name
            )
        elif facts.replicas == 1 and cluster.brokers > 1:
            yield warning(
                check, f"{seen}: one broken disk loses it", "raise its replication factor to 3", subject=topic.name
            )
        elif facts.replicas >= 3 and least < 2:
            yield warning(
                check, f"{seen}: one disk may hold the only copy", "set min.insync.replicas to 2", subject=topic.name
            )
        elif facts.in_sync < facts.replicas:
            yield warning(check, seen, "see why a replica trails", subject=topic.name)
        elif config.get("unclean.leader.election.enable") == "true":
            seen = "unclean.leader.election.enable: an election may cut the log"
            yield warning(check, seen, "set it to false on the topic", subject=topic.name)
        else:
            yield ok(check, seen, subject=topic.name)


def rights(settings: Settings, cluster: ClusterFacts) -> Iterator[Finding]:
    """Who runs this may do with each topic what the programs need."""
    for topic, facts in _there(settings, cluster):
        check = "rights"
        if facts.operations is None:
            yield not_checked(check, "the broker does not say what we may do", subject=topic.name)
            continue
        lacking = {op: who for op, who in NEEDED[topic.role].items() if op not in facts.operations}
        if lacking:
            seen = "; ".join(f"no {op}, which {who} need{'' if ',' in who else 's'}" for op, who in lacking.items())
            remedy = "give this principal an ACL, if it runs those programs"
            yield (problem if len(lacking) == len(NEEDED[topic.role]) else warning)(check, seen, remedy, topic.name)
        else:
            yield ok(check, " and ".join(NEEDED[topic.role]), subject=topic.name)


def compression(settings: Settings, cluster: ClusterFacts, codecs: Mapping[str, bool]) -> Iterator[Finding]:
    """Whatever codec a topic or a producer chooses can be read here."""
    unread = sorted(name for name, readable in codecs.items() if not readable)
    for topic, config in _configured(settings, cluster):
        chosen, check = config.get("compression.type", "producer"), "compression"
        if chosen in unread:
            yield problem(
                check,
                f"{chosen}, and no library here reads it",
                "install Tamiz with all its dependencies",
                subject=topic.name,
            )
        elif chosen == "producer" and unread:
            seen = f"producers choose, and no library here reads {', '.join(unread)}"
            yield warning(check, seen, "install Tamiz with all its dependencies", subject=topic.name)
        else:
            yield ok(check, chosen, subject=topic.name)


def _there(settings: Settings, cluster: ClusterFacts) -> Iterator[tuple[Topic, TopicFacts]]:
    for topic in topic_table(settings):
        if (facts := cluster.topics.get(topic.name)) is not None:
            yield topic, facts


def _configured(settings: Settings, cluster: ClusterFacts) -> Iterator[tuple[Topic, Mapping[str, str]]]:
    for topic, facts in _there(settings, cluster):
        if not isinstance(facts.config, Unknown):
            yield topic, facts.config


def _max_bytes(facts: TopicFacts | None) -> int | None:
    if facts is None or isinstance(facts.config, Unknown):
        return None
    return int(facts.config.get("max.message.bytes", DEFAULT_MAX_MESSAGE_BYTES))
