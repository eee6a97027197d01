"""A NATS client in another language that knows nothing of Autellix but subjects, headers and JSON.

Reads one command per line as JSON and answers each with one line {"id", "ok" | "error"}; commands run side by side.
Bodies are base64, because not all of them are text.
"""

import asyncio
import base64
import json
import sys

import nats

ANSWER_S_MAX = 60


class Outsider:
    def __init__(self, nc):
        self.nc = nc
        self.js = nc.jetstream()
        self.inboxes = {}

    async def listen(self, _):
        """Opens an inbox that collects. -> its subject"""
        inbox = self.nc.new_inbox()
        self.inboxes[inbox] = await self.nc.subscribe(inbox)
        return inbox

    async def read(self, command):
        """-> messages of the inbox up to the one that is marked as the last, or up to `count`"""
        subscription = self.inboxes[command["inbox"]]
        messages = []
        while len(messages) < command.get("count", sys.maxsize):
            message = await subscription.next_msg(timeout=ANSWER_S_MAX)
            headers = dict(message.headers or {})
            messages.append({"headers": headers, "text": message.data.decode()})
            if "Autellix-End" in headers:
                break
        return messages

    async def unread(self, command):
        """-> how many messages wait unread"""
        return self.inboxes[command["inbox"]].pending_msgs

    async def publish(self, command):
        """-> the server's answer: {"stream", "seq"}, or {"error"}"""
        try:
            answer = await self.nc.request(
                command["subject"],
                base64.b64decode(command["body"]),
                timeout=5,
                headers=command.get("headers") or None,
            )
            return json.loads(answer.data)
        except nats.errors.NoRespondersError:
            return {"error": {"description": "no responders"}}

    async def send(self, command):
        """Publishes and expects no answer."""
        await self.nc.publish(command["subject"], base64.b64decode(command["body"]))
        await self.nc.flush()

    async def request(self, command):
        answer = await self.nc.request(command["subject"], base64.b64decode(command["body"]), timeout=5)
        return answer.data.decode()

    async def record(self, command):
        """-> the last message on a subject of a stream, or None"""
        try:
            message = await self.js.get_last_msg(command["stream"], command["subject"])
        except nats.js.errors.NotFoundError:
            return None
        return {"seq": message.seq, "headers": dict(message.headers or {}), "text": message.data.decode()}


async def main(url):
    outsider = Outsider(await nats.connect(url))
    loop = asyncio.get_running_loop()
    running = set()

    async def run(line):
        command = json.loads(line)
        try:
            answer = {"ok": await getattr(outsider, command["op"])(command)}
        except Exception as error:  # told to the test, which fails
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps({"id": command["id"], **answer}), flush=True)

    while line := await loop.run_in_executor(None, sys.stdin.readline):
        task = asyncio.create_task(run(line))
        running.add(task)
        task.add_done_callback(running.discard)
    await outsider.nc.close()


asyncio.run(main(sys.argv[1]))
