"""Plays the scenarios of ../clients.json with phxsocket, which speaks V1 and does not reconnect by itself."""

import os
import queue

import phxsocket
from phxsocket.channel import ChannelConnectError

from stage import PAYLOAD, TOLD, URLS, ask, equal, report, topic

HANG = 60


class Member:
    """A client in one room. Messages and ends are put into queues by the client's thread."""

    def __init__(self, client, name):
        self.heard = queue.Queue()
        self.closed = queue.Queue()
        self.channel = client.channel(name, {})
        self.channel.on("n", self.heard.put)
        self.channel.on_close = lambda: self.closed.put(None)
        self.response = self.channel.join()

    def cast(self, event, payload):
        self.channel.push(event, payload)

    def push(self, event, payload):
        sent = self.channel.push(event, payload, reply=True)
        if not sent.event.wait(HANG):
            raise TimeoutError(f"no reply to {event}")
        return sent.message

    def hear(self):
        return self.heard.get(timeout=HANG)


def ok(response):
    return {"status": "ok", "response": response}


class Player:
    def __init__(self):
        self.clients = []

    def client(self, url=URLS["node"], params=None):
        client = phxsocket.Client(f"{url}/websocket", params or {})
        client.ended = queue.Queue()
        client.on_close = lambda _: client.ended.put(None)
        client.connect()
        self.clients.append(client)
        return client

    def back(self, client):
        """Connects again after the end of a connection, until it is there."""
        client.ended.get(timeout=HANG)
        # The thread of the connection calls `on_close` as its last act.
        client.thread.join()
        client.connect()

    def end(self):
        for client in self.clients:
            if client.thread.is_alive():
                client.close()

    def join_granted(self):
        equal(Member(self.client(), topic("granted")).response, {})

    def join_refused(self):
        client = self.client()
        for name, reason in (("room:denied", "unauthorized"), ("nowhere:1", "unmatched topic")):
            try:
                Member(client, name)
            except ChannelConnectError as refused:
                equal(refused.args, ({"reason": reason},))
            else:
                raise AssertionError(f"{name} was joined")

    def push_with_reply(self):
        room = Member(self.client(), topic("reply"))
        payload = {"text": "Grüße, 世界 🎉", "list": [1.5, None, {"deep": True}]}
        equal(room.push("echo", payload), ok(payload))
        equal(room.push("echo_error", {"why": "x"}), {"status": "error", "response": {"why": "x"}})

    def broadcast(self):
        one, other = self.client(), self.client()
        rooms = [Member(client, topic("broadcast")) for client in (one, other)]
        stray = Member(other, topic("elsewhere"))
        for n in range(20):
            rooms[0].cast("n", {"n": n})
        for room in rooms:
            equal([room.hear() for _ in range(20)], [{"n": n} for n in range(20)])
            equal(room.heard.empty(), True)
        equal(stray.heard.empty(), True)

    def forty_topics(self):
        client = self.client()
        rooms = [Member(client, topic(f"forty-{n}")) for n in range(40)]
        for n, room in enumerate(rooms):
            room.cast("n", {"n": n})
        for n, room in enumerate(rooms):
            equal(room.push("echo", {"n": n}), ok({"n": n}))
        for n, room in enumerate(rooms):
            equal(room.hear(), {"n": n})
            equal(room.heard.empty(), True)

    def duplicate_join(self):
        client = self.client()
        room = Member(client, topic("twice"))
        room.channel.join()
        room.closed.get(timeout=HANG)
        room.cast("n", {"n": 1})
        equal(room.push("echo", {"n": 2}), ok({"n": 2}))
        equal(room.hear(), {"n": 1})
        equal(room.heard.empty(), True)

    def leave(self):
        one = self.client()
        leaver, stayer = (Member(client, topic("leave")) for client in (one, self.client()))
        # `leave` cannot read its own reply in this version; the end of the channel shows that it was taken.
        leaver.channel.leave()
        leaver.closed.get(timeout=HANG)
        stayer.cast("n", {"n": 1})
        equal(stayer.hear(), {"n": 1})
        again = Member(one, topic("leave"))
        stayer.cast("n", {"n": 2})
        equal(again.hear(), {"n": 2})
        equal(leaver.heard.empty(), True)

    def thirty_reconnects(self):
        client = self.client(URLS["relay"])
        Member(client, topic("thirty"))
        for n in range(30):
            ask("cut")
            self.back(client)
            equal(Member(client, topic("thirty")).push("echo", {"n": n}), ok({"n": n}))

    def network_drop(self):
        client = self.client(URLS["relay"])
        Member(client, topic("drop"))
        other = Member(self.client(), topic("drop"))
        ask("down")
        client.ended.get(timeout=HANG)
        client.thread.join()
        try:
            client.connect()
        except OSError:
            pass
        else:
            raise AssertionError("the network is not down")
        client.thread.join()
        other.cast("n", {"n": "lost"})
        other.hear()
        ask("up")
        client.connect()
        room = Member(client, topic("drop"))
        other.cast("n", {"n": "heard"})
        equal(room.hear(), {"n": "heard"})

    def token_refresh(self):
        tokens = ask("tokens")
        client = self.client(URLS["tokens"], {"token": tokens["short"]})
        room = Member(client, topic("token"))
        room.cast("access_token", {"access_token": tokens["long"]})
        ask("expired")
        equal(room.push("send", {})["status"], "ok")
        equal(client.ended.empty(), True)

    def token_at_a_reconnect(self):
        tokens = ask("tokens")
        client = self.client(URLS["tokens"], {"token": tokens["short"]})
        Member(client, topic("renewed"))
        client.set_params({"token": tokens["long"]})
        self.back(client)
        equal(Member(client, topic("renewed")).push("send", {})["status"], "ok")

    def payload_of_256_kb(self):
        rooms = [Member(self.client(URLS["tokens"]), topic("large")) for _ in range(2)]
        equal(rooms[0].push("echo", {"text": PAYLOAD}), ok({"text": PAYLOAD}))
        rooms[0].cast("n", {"text": PAYLOAD})
        equal(rooms[1].hear(), {"text": PAYLOAD})


for scenario in TOLD["scenarios"]:
    player, error = Player(), None
    try:
        getattr(player, "payload_of_256_kb" if scenario[0] == "2" else scenario.replace(" ", "_"))()
    except Exception as failure:
        error = failure
    player.end()
    report(scenario, error)
# Threads of the client that still wait would keep the process.
os._exit(0)
