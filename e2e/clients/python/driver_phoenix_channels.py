"""Plays the scenarios of ../clients.json with phoenix-channels-python-client: `driver_phoenix_channels.py 1.0` or `2.0`, the version
of the protocol.

The client joins, hears and reconnects; it has no function that pushes, but gives away its connection and its serializer.
"""

import asyncio
import sys
from contextlib import AsyncExitStack

from phoenix_channels_python_client import PHXChannelsClient, ReconnectPolicy
from phoenix_channels_python_client.exceptions import PHXTopicError
from phoenix_channels_python_client.phx_messages import PHXEvent
from phoenix_channels_python_client.utils import make_message

from stage import PAYLOAD, TOLD, URLS, ask, equal, report, topic

HANG = 60
VERSION = sys.argv[1]
# In V2 the client drops what has no join_ref, and so every broadcast.
HEARS = VERSION == "1.0"
AT_ONCE = ReconnectPolicy(
    base_delay_s=0.02,
    max_delay_s=0.2,
    rapid_first_min_delay_s=0,
    rapid_second_min_delay_s=0,
    rapid_cooldown_base_s=0,
    rapid_cooldown_step_s=0,
    rapid_cooldown_max_s=0,
    rapid_suppress_disconnect_count=0,
)


def ok(response):
    return {"status": "ok", "response": response}


class Member:
    """A client in one room."""

    refs = 0

    @classmethod
    async def of(cls, client, name):
        member = cls()
        member.client, member.name = client, name
        member.heard, member.replies = asyncio.Queue(), {}
        await client.subscribe_to_topic(name, member.on_message)
        return member

    async def on_message(self, message):
        if message.event == PHXEvent.reply:
            self.replies.pop(message.ref).set_result(message.payload)
        else:
            self.heard.put_nowait(message.payload)

    async def cast(self, event, payload):
        Member.refs += 1
        ref = f"push-{Member.refs}"
        reply = self.replies[ref] = asyncio.get_running_loop().create_future()
        join_ref = self.client.get_current_subscriptions()[self.name].join_ref
        message = make_message(event, self.name, ref, payload, join_ref)
        await self.client.get_protocol_handler().send_message(self.client.connection, message)
        return reply

    async def push(self, event, payload):
        return await asyncio.wait_for(await self.cast(event, payload), HANG)

    async def hear(self):
        return await asyncio.wait_for(self.heard.get(), HANG)


class Player:
    def __init__(self, stack):
        self.stack = stack

    async def client(self, url=URLS["node"], query="", **options):
        back, ended = asyncio.Queue(), asyncio.Queue()

        async def on_reconnect():
            back.put_nowait(None)

        async def on_disconnect(_):
            ended.put_nowait(None)

        client = PHXChannelsClient(
            f"{url}/websocket{query}",
            "no-key",
            protocol_version=VERSION,
            reconnect_policy=AT_ONCE,
            on_reconnect=on_reconnect,
            on_disconnect=on_disconnect,
            **options,
        )
        client.back, client.ended = back, ended
        return await self.stack.enter_async_context(client)

    async def returned(self, client):
        await asyncio.wait_for(client.back.get(), HANG)

    async def join_granted(self):
        await Member.of(await self.client(), topic("granted"))

    async def join_refused(self):
        client = await self.client()
        refusals = [("room:denied", "unauthorized")]
        # The reply about an unknown topic has no join_ref, as with Phoenix.
        if HEARS:
            refusals.append(("nowhere:1", "unmatched topic"))
        for name, reason in refusals:
            try:
                await Member.of(client, name)
            except PHXTopicError as refused:
                equal(str(refused), reason)
            else:
                raise AssertionError(f"{name} was joined")

    async def push_with_reply(self):
        room = await Member.of(await self.client(), topic("reply"))
        payload = {"text": "Grüße, 世界 🎉", "list": [1.5, None, {"deep": True}]}
        equal(await room.push("echo", payload), ok(payload))
        equal(await room.push("echo_error", {"why": "x"}), {"status": "error", "response": {"why": "x"}})

    async def broadcast(self):
        one, other = await self.client(), await self.client()
        rooms = [await Member.of(client, topic("broadcast")) for client in (one, other)]
        stray = await Member.of(other, topic("elsewhere"))
        for n in range(20):
            await rooms[0].cast("n", {"n": n})
        for room in rooms:
            equal([await room.hear() for _ in range(20)], [{"n": n} for n in range(20)])
            equal(room.heard.empty(), True)
        equal(stray.heard.empty(), True)

    async def forty_topics(self):
        client = await self.client()
        rooms = [await Member.of(client, topic(f"forty-{n}")) for n in range(40)]
        for n, room in enumerate(rooms):
            await room.cast("push_me", {"n": n})
        for n, room in enumerate(rooms):
            equal(await room.push("echo", {"n": n}), ok({"n": n}))
        for n, room in enumerate(rooms):
            equal(await room.hear(), {"n": n})
            equal(room.heard.empty(), True)

    async def leave(self):
        client = await self.client()
        leaver = await Member.of(client, topic("leave"))
        stayer = await Member.of(await self.client(), topic("leave"))
        await client.unsubscribe_from_topic(topic("leave"))
        equal((await stayer.push("n_ack", {"n": 1}))["status"], "ok")
        again = await Member.of(client, topic("leave"))
        equal((await stayer.push("n_ack", {"n": 2}))["status"], "ok")
        if HEARS:
            equal(await again.hear(), {"n": 2})
        equal(await again.push("echo", {}), ok({}))
        equal(leaver.heard.empty(), True)

    async def thirty_reconnects(self):
        client = await self.client(URLS["relay"])
        room = await Member.of(client, topic("thirty"))
        for n in range(30):
            await asyncio.to_thread(ask, "cut")
            await self.returned(client)
            equal(await room.push("echo", {"n": n}), ok({"n": n}))

    async def network_drop(self):
        client = await self.client(URLS["relay"])
        room = await Member.of(client, topic("drop"))
        other = await Member.of(await self.client(), topic("drop"))
        await asyncio.to_thread(ask, "down")
        await asyncio.wait_for(client.ended.get(), HANG)
        equal((await other.push("n_ack", {"n": "lost"}))["status"], "ok")
        await asyncio.to_thread(ask, "up")
        await self.returned(client)
        equal((await other.push("n_ack", {"n": "heard"}))["status"], "ok")
        if HEARS:
            equal(await room.hear(), {"n": "heard"})
        equal(await room.push("echo", {}), ok({}))

    async def silent_network(self):
        client = await self.client(URLS["relay"], heartbeat_interval_s=0.2, heartbeat_dead_threshold_s=1)
        room = await Member.of(client, topic("silence"))
        await asyncio.to_thread(ask, "silence")
        await self.returned(client)
        equal(await room.push("echo", {}), ok({}))

    async def token_refresh(self):
        tokens = await asyncio.to_thread(ask, "tokens")
        client = await self.client(URLS["tokens"], f"?token={tokens['short']}")
        room = await Member.of(client, topic("token"))
        await room.cast("access_token", {"access_token": tokens["long"]})
        await asyncio.to_thread(ask, "expired")
        equal((await room.push("send", {}))["status"], "ok")
        equal(client.ended.empty(), True)

    async def token_at_a_reconnect(self):
        tokens = await asyncio.to_thread(ask, "tokens")
        client = await self.client(URLS["tokens"], f"?token={tokens['short']}")
        room = await Member.of(client, topic("renewed"))
        client.channel_socket_url = client.channel_socket_url.replace(tokens["short"], tokens["long"])
        await self.returned(client)
        equal((await room.push("send", {}))["status"], "ok")

    async def payload_of_256_kb(self):
        rooms = [await Member.of(await self.client(URLS["tokens"]), topic("large")) for _ in range(2)]
        equal(await rooms[0].push("echo", {"text": PAYLOAD}), ok({"text": PAYLOAD}))
        equal((await rooms[0].push("send", {"text": PAYLOAD}))["status"], "ok")
        if HEARS:
            equal(await rooms[1].hear(), {"text": PAYLOAD})


async def play(scenario):
    async with AsyncExitStack() as stack:
        name = "payload_of_256_kb" if scenario[0] == "2" else scenario.replace(" ", "_")
        await getattr(Player(stack), name)()


for scenario in TOLD["scenarios"]:
    try:
        asyncio.run(play(scenario))
    except Exception as failure:
        report(scenario, failure)
    else:
        report(scenario, None)
