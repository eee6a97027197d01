"""The same as plain-nats.ts, in Python: `pip install nats-py`, then

python examples/plain_nats.py [nats://127.0.0.1:4222] [pool]
"""

import asyncio
import json
import sys
import uuid

import nats

ANSWER_S_MAX = 60


async def main(url="nats://127.0.0.1:4222", pool="SmolLM2-135M-Instruct"):
    nc = await nats.connect(url)
    try:
        call_id = str(uuid.uuid4())
        inbox = nc.new_inbox()
        answers = await nc.subscribe(inbox)
        messages = [{"role": "user", "content": "What is the capital of France?"}]
        body = {"messages": messages, "max_tokens": 48, "temperature": 0}
        accepted = await nc.request(
            f"autellix.calls.{pool}.default.{call_id}",
            json.dumps(body).encode(),
            timeout=5,
            headers={"Autellix-Reply": inbox},
        )
        ack = json.loads(accepted.data)
        if "error" in ack:
            raise RuntimeError(f"refused: {ack['error']['description']}")
        print(f"accepted as {call_id}, number {ack['seq']} in the queue's stream")

        status = None
        while status is None:
            message = await answers.next_msg(timeout=ANSWER_S_MAX)
            chunk = json.loads(message.data)
            if chunk.get("restart"):
                print("\n(an engine was lost, the answer starts over)")
            for choice in chunk.get("choices", []):
                print(choice["delta"].get("content") or "", end="", flush=True)
            status = (message.headers or {}).get("Autellix-End")
        print(f"\nended: {status}")

        subject = f"$JS.API.DIRECT.GET.AUTELLIX_OUTCOMES.autellix.outcomes.{pool}.default.{call_id}"
        record = json.loads((await nc.request(subject, b"")).data)
        print("on record:", json.dumps(record.get("error") or record.get("usage")))
        return 0 if status == "completed" else 1
    finally:
        await nc.close()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:3])))
