"""Stock Faust: count and sum of one amount by key over one hopping hour in a windowed table, and nothing else."""

import json

import faust

from benchmarks.peers.amounts import amount_of
from benchmarks.peers.faust_app import app_of
from benchmarks.peers.job import Job

job = Job.from_command_line()
app, transactions, decisions, _ = app_of(job)
app.conf.topic_allow_declare = True  # of the table's changelog
app.conf.topic_replication_factor = 1
totals = app.Table("totals", default=lambda: [0, 0.0], partitions=4).hopping(3_600, 300)


@app.agent(transactions)
async def total(stream: faust.StreamT) -> None:
    async for event in stream.events():
        key = event.key.decode()
        count, amount = totals[key].current()
        totals[key] = found = [count + 1, amount + amount_of(event.value)]
        await decisions.send(key=event.key, value=json.dumps(found).encode())


if __name__ == "__main__":
    faust.Worker(app, quiet=True, loglevel="WARNING").execute_from_commandline()
