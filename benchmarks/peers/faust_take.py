"""Stock Faust, with `take`: up to 1,000 events at a time."""

import faust

from benchmarks.peers.faust_app import app_of
from benchmarks.peers.job import MAX_BATCH, Job, Work

job = Job.from_command_line()
work = Work(job)
app, transactions, decisions, dead_letters = app_of(job)


@app.agent(transactions)
async def decide(stream: faust.StreamT) -> None:
    async for events in stream.take_events(MAX_BATCH, within=job.within_s):
        handled = work([event.message for event in events])
        for topic, records in ((decisions, handled.decisions), (dead_letters, handled.dead_letters)):
            for out in records:
                await topic.send(key=out.key, value=out.value, partition=out.partition, headers=out.headers)


if __name__ == "__main__":
    faust.Worker(app, quiet=True, loglevel="WARNING").execute_from_commandline()
