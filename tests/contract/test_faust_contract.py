"""Every Faust and aiokafka internal that stream_app/kafka/faust_transport.py rests on: an upgrade that moves one is
named here.
"""

import inspect
import re
from importlib.metadata import version

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.conn import AIOKafkaConnection
from aiokafka.consumer import consumer, fetcher
from aiokafka.consumer.fetcher import Fetcher as AiokafkaFetcher
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.consumer.subscription_state import Assignment, TopicPartitionState
from aiokafka.util import commit_structure_validate
from faust.app.base import App
from faust.tables.recovery import Recovery
from faust.transport.conductor import Conductor
from faust.transport.consumer import Consumer, Fetcher
from faust.transport.drivers import aiokafka as driver
from kafka import KafkaConsumer
from kafka.consumer.fetcher import Fetcher as PlainFetcher
from kafka.record.memory_records import MemoryRecords as PlainMemoryRecords
from mode import Service
from mode.threads import QueueServiceThread, ServiceThread

from schemas.configuration.settings import load
from stream_app.kafka import faust_transport
from stream_app.kafka.aiokafka_patch import FetchedBatches, _FetchResult, _PartitionRecords, install
from stream_app.kafka.wire import batch_fetcher, connections
from stream_app.worker.faust_app import assigned_partitions, consumed_partitions, make_app

MB = 1024 * 1024


def source(thing: object) -> str:
    return inspect.getsource(thing)  # type: ignore[arg-type]


def test_the_pinned_releases_are_the_ones_that_were_read() -> None:
    assert (version("faust-streaming"), version("aiokafka")) == ("0.15.3", "0.14.0")


def test_the_fetcher_drains_through_the_method_we_override() -> None:
    assert "consumer._drain_messages(self)" in source(Fetcher)


def test_a_fetch_gives_records_by_partition_beside_the_active_ones() -> None:
    assert list(inspect.signature(Consumer._wait_next_records).parameters) == ["self", "timeout"]
    assert "return records, active_partitions" in source(Consumer._wait_next_records)


def test_nothing_is_fetched_while_the_flow_is_suspended() -> None:
    assert "if not self.consumer.flow_active:\n            return {}" in source(
        driver.AIOKafkaConsumerThread._fetch_records
    )


def test_a_seek_goes_to_the_committed_offsets() -> None:
    assert "await self.seek_to_committed()" in source(Consumer.perform_seek)


def test_a_seek_passes_over_partitions_of_which_nothing_was_committed() -> None:
    assert "if offset and offset > 0:" in source(AIOKafkaConsumer.seek_to_committed)
    assert "read_offset.update" in source(Consumer.perform_seek)


def test_a_resumed_assignment_is_sought_after_it_is_resumed_so_that_what_is_held_then_stays_held() -> None:
    text = source(Recovery._resume_streams)
    assert text.index("resume_partitions(") < text.index("perform_seek()") < text.index("resume_flow()")


def test_without_a_reset_an_offset_that_does_not_fit_is_an_error_of_the_fetch() -> None:
    text = source(fetcher.Fetcher)
    assert "err = Errors.OffsetOutOfRangeError({tp: fetch_offset})" in text
    assert "err = Errors.NoOffsetForPartitionError(tp)" in text
    assert "res_or_error.check_raise()" in source(fetcher.Fetcher.fetched_records)
    assert "elif tp_state.paused:" in text


def test_a_position_is_known_of_each_assigned_partition() -> None:
    assert {"has_valid_position", "position", "paused"} <= set(dir(TopicPartitionState))
    assert "self.user_assignment" not in source(Assignment.state_value)


def test_a_commit_carries_metadata_and_gives_it_back() -> None:
    assert "offset, metadata = offset_and_metadata" in source(commit_structure_validate)
    assert "OffsetAndMetadata(offset, metadata)" in source(GroupCoordinator._do_fetch_commit_offsets)


@pytest.mark.parametrize("caller", [App._on_partitions_revoked, App._stop_consumer])
def test_revocation_and_stop_suspend_the_flow_and_wait_for_what_is_held(caller: object) -> None:
    text = source(caller)
    assert text.index("stop_flow") < text.index("_consumer_wait_empty")


def test_waiting_for_what_is_held_goes_through_wait_empty() -> None:
    assert "await consumer.wait_empty()" in source(App._consumer_wait_empty)


def test_the_generation_is_known_before_the_assignment_is_announced() -> None:
    text = source(driver.ConsumerRebalanceListener.on_partitions_assigned)
    assert text.index("consumer_generation_id = generation") < text.index("on_partitions_assigned(ensure_TPset")


def test_a_topic_without_an_agent_is_subscribed_to() -> None:
    assert "self._topic_name_index[topic].add(channel)" in source(Conductor._update_indices)
    assert "return self._topic_name_index" in source(Conductor._update_indices)


def test_our_scheme_gives_our_transport() -> None:
    app = make_app(load({"TAMIZ_BOOTSTRAP_SERVERS": "127.0.0.1:1,127.0.0.1:2"}))
    assert isinstance(app.transport, faust_transport.RecordBatchTransport)
    assert [url.port for url in app.transport.url] == [1, 2]


def test_the_isolation_level_is_read_when_the_consumer_starts_after_it_was_made() -> None:
    assert "isolation_level=self._isolation_level" in source(AIOKafkaConsumer.start)
    text = source(driver.AIOKafkaConsumerThread.on_start)
    assert text.index("self._create_consumer(") < text.index("self._consumer.start()")
    assert "return self._create_worker_consumer(transport)" in source(driver.AIOKafkaConsumerThread._create_consumer)
    assert "AIOKafkaConsumerThread(self, loop=self.loop, beacon=self.beacon)" in source(
        driver.Consumer._new_consumer_thread
    )


def test_aiokafka_unpacks_what_was_fetched_through_the_two_classes_we_replace() -> None:
    text = source(AiokafkaFetcher._proc_fetch_request)
    assert "records = MemoryRecords(part_data[-1])" in text
    assert "partition_records = PartitionRecords(" in text
    initial = source(PartitionRecords.__init__)
    assert "self.next_fetch_offset = fetch_offset" in initial
    assert "self._records_iterator = self._unpack_records()" in initial
    unpacked = source(PartitionRecords._unpack_records)
    for used in ("records = self._records", "records.has_next()", "records.next_batch()", "next_batch.validate_crc()"):
        assert used in unpacked
    # Read after the records: a partly read batch states there where the next fetch starts.
    assert unpacked.index("for record in next_batch") < unpacked.rindex(
        "self.next_fetch_offset = next_batch.next_offset"
    )


def test_aiokafka_reads_what_was_fetched_through_the_class_we_replace() -> None:
    assert "self._records[tp] = FetchResult(" in source(AiokafkaFetcher._proc_fetch_request)
    for method, call in (
        (AiokafkaFetcher.fetched_records, "getall(max_records)"),
        (AiokafkaFetcher.next_record, "getone()"),
    ):
        assert "type(res_or_error) is FetchResult" in source(method)
        assert f"res_or_error.{call}" in source(method)
    # Only its length and its truth are used; a sequence that makes its records later will do.
    drained = source(AiokafkaFetcher.fetched_records)
    for used in ("if not records:", "drained[tp] = records", "max_records -= len(drained[tp])"):
        assert used in drained
    unpacked = source(PartitionRecords._unpack_records)
    assert "consumer_record = self._consumer_record(tp, record)" in unpacked
    # A part of a batch has the offset of its last record.
    assert unpacked.index("record.offset < self.next_fetch_offset") < unpacked.index(
        "self.next_fetch_offset = record.offset + 1"
    )


def test_our_classes_are_installed_in_the_place_of_aiokafkas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetcher, "MemoryRecords", fetcher.MemoryRecords)  # put back afterwards
    monkeypatch.setattr(fetcher, "PartitionRecords", fetcher.PartitionRecords)
    monkeypatch.setattr(fetcher, "FetchResult", fetcher.FetchResult)
    install({})
    installed = fetcher.MemoryRecords, fetcher.PartitionRecords, fetcher.FetchResult
    assert installed == (FetchedBatches, _PartitionRecords, _FetchResult)
    assert issubclass(_PartitionRecords, PartitionRecords)


def test_kafka_python_unpacks_what_was_fetched_through_the_class_we_replace() -> None:
    assert "parsed_records = self.PartitionRecords(fetch_offset, tp, records," in source(
        PlainFetcher._parse_fetched_data
    )
    assert "self._fetcher = Fetcher(" in source(KafkaConsumer.__init__)
    assert "self._buffer = bytes_data" in source(PlainMemoryRecords.__init__)
    initial = source(PlainFetcher.PartitionRecords.__init__)
    assert "self._unpack_records(tp, records, key_deserializer, value_deserializer)" in initial
    assert initial.index("self.next_fetch_offset = fetch_offset") < initial.index("self._unpack_records(")
    unpacked = source(PlainFetcher.PartitionRecords._unpack_records)
    for used in ("records.next_batch()", "batch.validate_crc()", "batch.has_producer_id()", "batch.leader_epoch"):
        assert used in unpacked


def test_to_ask_for_partitions_makes_no_consumer_whichever_thread_asks() -> None:
    # Faust's own property makes one when there is none, and unlocked: two threads would make two, and start one.
    assert "if self._consumer is None:\n            self._consumer = self._new_consumer()" in source(App.consumer.fget)
    app = make_app(load({"TAMIZ_BOOTSTRAP_SERVERS": "127.0.0.1:1"}))
    assert assigned_partitions(app, frozenset({"transactions"})) == []
    assert consumed_partitions(app, frozenset({"transactions"})) == {}
    assert app._consumer is None


def test_our_consumer_service_has_no_thread_because_each_method_of_a_service_in_a_thread_is_replaced() -> None:
    replaced = vars(faust_transport.CommittedReader)
    in_thread = {
        name
        for name in vars(ServiceThread).keys() & vars(Service).keys()
        if inspect.isfunction(vars(ServiceThread)[name])
        and not name.startswith("__")
        and vars(ServiceThread)[name] is not vars(Service)[name]
    }
    assert in_thread - {"_new_shutdown_event"} == {
        "start", "maybe_start", "stop", "crash", "set_shutdown",
        "_stopped_set", "_stop_children", "_stop_futures", "_stop_exit_stacks",
    }  # fmt: skip
    assert [name for name in in_thread - {"_new_shutdown_event"} if replaced[name] is not vars(Service)[name]] == []
    assert "call_thread" in vars(QueueServiceThread)
    assert "call_thread" in replaced
    # Started without a thread, it is stopped through `on_stop`, not `on_thread_stop`.
    assert "await self._consumer.stop()" in source(driver.AIOKafkaConsumerThread.on_thread_stop)
    assert "await self.on_stop()" in source(Service.stop)
    assert "if self.wait_for_shutdown" in source(Service.stop)


def test_the_callbacks_of_a_rebalance_run_in_a_task_of_the_given_loop() -> None:
    text = source(driver.Consumer.threadsafe_partitions_revoked)
    assert "self._method_queue.call(" in text
    assert "receiver_loop.create_future()" in text


def test_a_consumer_makes_the_fetcher_we_replace_and_reads_through_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "Fetcher", consumer.Fetcher)
    batch_fetcher.install()
    assert consumer.Fetcher is batch_fetcher.BatchFetcher
    assert "self._fetcher = Fetcher(" in source(AIOKafkaConsumer.start)
    assert "await fetcher.fetched_records(" in source(driver.AIOKafkaConsumerThread._fetch_records)


def test_aiokafkas_task_of_the_fetcher_looks_again_after_each_change_and_sends_what_it_is_given() -> None:
    text = source(AiokafkaFetcher._fetch_requests_routine)
    assert ") = self._get_actions_per_node(assignment)" in text
    assert text.index("for node_id, request in fetch_requests:") < text.index("timeout=timeout,")
    for event in ("self._wait_consume_future, assignment.unassign_future", "resume_futures"):
        assert event in text
    assert "self._records.clear()" in text  # another assignment
    assert "return (\n            fetch_requests," in source(AiokafkaFetcher._get_actions_per_node)
    for change in (AiokafkaFetcher.seek_to, AiokafkaFetcher.request_offset_reset):
        assert "self._notify(self._wait_consume_future)" in source(change)


def test_our_fetcher_uses_of_aiokafkas_what_is_there() -> None:
    made = source(AiokafkaFetcher.__init__)
    ours = set(re.findall(r"self\.(_\w+)", source(batch_fetcher.BatchFetcher)))
    inherited = ours - set(vars(batch_fetcher.BatchFetcher)) - {"_sent", "_next_s", "_failure"}
    methods = {name for name in inherited if hasattr(AiokafkaFetcher, name)}
    assert methods == {"_create_fetch_waiter", "_notify", "_set_error"}
    assert [name for name in inherited - methods if f"self.{name} = " not in made] == []
    # Errors of the group are passed to these futures.
    assert "self._subscriptions.register_fetch_waiters(self._fetch_waiters)" in made


def test_a_connection_starts_reading_through_the_method_we_replace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AIOKafkaConnection, "_create_reader_task", AIOKafkaConnection._create_reader_task)
    text = source(AIOKafkaConnection.connect)
    assert text.index("self._read_task = self._create_reader_task()") < text.index("await self._do_version_lookup()")
    assert "AIOKafkaProtocol(self._closed_fut, reader" in text
    closing = source(AIOKafkaConnection.close)
    assert "if not self._read_task.done():" in closing
    assert "for _, _, fut in self._requests:" in closing
    frame = source(AIOKafkaConnection._handle_frame)
    assert "correlation_id, request, fut = self._requests[0]" in frame
    assert "self._requests.popleft()" in frame
    assert "self._last_action = time.monotonic()" in frame
    sending = source(AIOKafkaConnection.send)
    assert "correlation_id = self._next_correlation_id()" in sending
    assert "(correlation_id, request_struct, fut)," in sending
    connections.install()
    assert AIOKafkaConnection._create_reader_task is connections._read_frames
