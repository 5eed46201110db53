"""The approach of tutorials: kafka-python, a pandas frame of one row and `mlflow.pyfunc`, event by event."""

import mlflow
import msgspec
import pandas as pd
from kafka import KafkaConsumer, KafkaProducer

from benchmarks.peers.job import Job
from monitoring.counting.monitored_model import MonitoredModel
from schemas.dataset.declaration import load_dataset
from schemas.records import Decision
from scoring.decision import OUTCOMES, decision_id, outcome_codes, thresholds
from scoring.features import featurize
from scoring.input.cleaning import clean_payloads


def main() -> None:
    job = Job.from_command_line()
    manifest = MonitoredModel.load(job.bundle, version=1).manifest
    dataset = load_dataset(manifest.dataset)
    pyfunc = mlflow.pyfunc.load_model(str(job.bundle.parent / "pyfunc"))
    consumer = KafkaConsumer(
        job.transactions, bootstrap_servers=job.bootstrap, group_id=job.group, auto_offset_reset="earliest"
    )
    producer = KafkaProducer(bootstrap_servers=job.bootstrap, acks="all", enable_idempotence=True)
    for record in consumer:
        cleaned = clean_payloads(dataset, [record.value])
        if cleaned.rejections:
            producer.send(job.dead_letters, value=record.value, key=record.key, partition=record.partition)
            continue
        frame = pd.DataFrame(featurize(manifest.features, cleaned.columns), columns=list(manifest.names))
        score = float(pyfunc.predict(frame)[0])
        code = int(outcome_codes([score], manifest.points)[0])  # type: ignore[arg-type]
        transaction = f"{record.topic}-{record.partition}-{record.offset}"
        decision = Decision(
            decision_id=decision_id(transaction),
            transaction_id=transaction,
            score=score,
            outcome=OUTCOMES[code],  # type: ignore[arg-type]
            model_outcome=OUTCOMES[code],  # type: ignore[arg-type]
            decided_by="model",
            exploration_share=None,
            ruleset=None,
            threshold=thresholds(manifest.points)[code],
            reasons=(),
            model=manifest.model,
            model_version=1,
            event_time_ms=int(cleaned.event_time_ms[0]),
        )
        value = msgspec.json.encode(decision)
        producer.send(job.decisions, value=value, key=record.key, partition=record.partition)


if __name__ == "__main__":
    main()
