"""Checks of the cluster, the consumer group and the clocks. Pure."""

from collections.abc import Iterator

from schemas.configuration.settings import Settings
from tamiz.doctor.check_result import Finding, not_checked, ok, problem, warning
from tamiz.doctor.facts import ClusterFacts, Unknown

MAX_SKEW_S = 60.0
MAX_SKEW_TOLERATED_S = 5.0
DAY_MINUTES = 24 * 60


def readable_configuration(settings: Settings, cluster: ClusterFacts) -> Iterator[Finding]:
    """Topic configurations can be read; most topic checks need them."""
    unknown = {name: f.config.reason for name, f in cluster.topics.items() if isinstance(f.config, Unknown)}
    if unknown:
        why = next(iter(unknown.values()))
        names = ", ".join(sorted(unknown))
        yield not_checked(
            "topic configuration", f"size, retention, cleanup of {names}: {why}", "give this principal DESCRIBE_CONFIGS"
        )


def offset_retention(settings: Settings, cluster: ClusterFacts) -> Iterator[Finding]:
    """The broker retains committed offsets while workers are stopped."""
    check = "retention of committed offsets"
    if isinstance(cluster.broker_config, Unknown):
        yield not_checked(check, cluster.broker_config.reason, "give this principal DESCRIBE_CONFIGS on the cluster")
        return
    minutes = int(cluster.broker_config.get("offsets.retention.minutes", 7 * DAY_MINUTES))
    seen = f"offsets.retention.minutes is {minutes:,}: offsets expire after {minutes / DAY_MINUTES:g} idle days"
    if minutes < DAY_MINUTES:
        yield problem(check, seen, "set it to at least a week, 10080")
    elif minutes < 7 * DAY_MINUTES:
        yield warning(check, seen, "set it to at least a week, 10080")
    else:
        yield ok(check, seen)


def committed_offsets(settings: Settings, cluster: ClusterFacts) -> Iterator[Finding]:
    """The committed offsets are within the log, and belong to the current topic."""
    check = "committed offsets"
    if isinstance(cluster.group, Unknown):
        yield not_checked(check, cluster.group.reason, "give this principal DESCRIBE on the group")
        return
    topic = cluster.topics.get(settings.transactions_topic)
    found = cluster.group.positions
    if not found:
        yield ok(check, "none yet; docs/guarantees.md states where workers start")
        return
    remedy = f"offset_reset is {settings.offset_reset}: docs/guarantees.md, States of the log, explains what workers do"
    beyond = {p: at for p, at in found.items() if at.committed > at.end}
    expired = {p: at for p, at in found.items() if at.committed < at.first}
    other = [p for p, at in found.items() if topic and at.topic_id and topic.id and at.topic_id != topic.id]
    for p, at in beyond.items():
        yield problem(check, f"partition {p}: {at.committed:,} is beyond the log's end {at.end:,}", remedy)
    for p, at in expired.items():
        lost = at.first - at.committed
        yield problem(check, f"partition {p}: {lost:,} records were deleted before they were decided", remedy)
    if other:
        yield problem(check, f"partitions {', '.join(map(str, other))}: the topic was recreated since", remedy)
    if topic and (unknown := sorted(set(range(topic.partitions)) - set(found))):
        yield warning(check, f"none for partitions {', '.join(map(str, unknown))}", "nothing, if they are new")
    if not beyond and not expired and not other:
        lag = sum(at.end - at.committed for at in found.values())
        yield ok(check, f"within the log; {lag:,} transactions are not decided yet")


def group_rights(settings: Settings, cluster: ClusterFacts) -> Iterator[Finding]:
    """Workers may join the group and, with exactly-once, write in Kafka transactions."""
    check = "rights on the group"
    if not isinstance(cluster.group, Unknown):
        operations = cluster.group.operations
        if operations is None:
            yield not_checked(check, "the broker does not return authorized operations")
        elif "READ" not in operations:
            yield problem(check, "no READ, which worker needs", "give this principal an ACL, if it runs workers")
        else:
            yield ok(check, "READ")
    if settings.processing_guarantee == "exactly-once":
        yield not_checked("rights on transactional ids", "only a write could verify them", "see docs/deployment.md")


def clocks(settings: Settings, cluster: ClusterFacts, now_ms: int) -> Iterator[Finding]:
    """The clocks of brokers and producers agree with this machine's clock."""
    remedy = "synchronise the clocks (NTP)"
    if isinstance(cluster.clock_ahead_s, Unknown):
        yield not_checked("broker clock", cluster.clock_ahead_s.reason)
    else:
        ahead = cluster.clock_ahead_s
        seen = f"{abs(ahead):.1f} s {'ahead of' if ahead >= 0 else 'behind'} this machine's"
        report = problem if abs(ahead) > MAX_SKEW_S else warning
        yield (ok("broker clock", seen) if abs(ahead) <= MAX_SKEW_TOLERATED_S else report("broker clock", seen, remedy))
    for name, topic in cluster.topics.items():
        if topic.newest_ms is not None and topic.newest_ms > now_ms + MAX_SKEW_S * 1000:
            seen = f"a record's timestamp is {(topic.newest_ms - now_ms) / 1000:,.0f} s ahead of this machine's clock"
            yield problem("timestamps", seen, remedy, name)


def internal_replication(settings: Settings, cluster: ClusterFacts) -> Iterator[Finding]:
    """The broker's internal topics, for offsets and Kafka transactions, survive the loss of a disk."""
    if cluster.brokers < 3 or isinstance(cluster.broker_config, Unknown):
        return
    for name in ("offsets.topic.replication.factor", "transaction.state.log.replication.factor"):
        copies = int(cluster.broker_config.get(name, 3))
        if copies < 3:
            yield warning(name, f"{copies}, on {cluster.brokers} brokers", "set it to 3 before the topic is created")
        else:
            yield ok(name, str(copies))
