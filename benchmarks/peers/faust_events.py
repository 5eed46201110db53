"""Stock Faust, one event at a time."""

import faust

from benchmarks.peers.faust_app import app_of
from benchmarks.peers.job import Job, Work

job = Job.from_command_line()
work = Work(job)
app, transactions, decisions, dead_letters = app_of(job)


@app.agent(transactions)
async def decide(stream: faust.StreamT) -> None:
    async for event in stream.events():
        handled = work([event.message])
        for topic, records in ((decisions, handled.decisions), (dead_letters, handled.dead_letters)):
            for out in records:
                await topic.send(key=out.key, value=out.value, partition=out.partition, headers=out.headers)


if __name__ == "__main__":
    faust.Worker(app, quiet=True, loglevel="WARNING").execute_from_commandline()
