"""A relay on uWebSockets (through socketify): the room is in the query, what a client says goes to its room.

usage: python server.py PORT [KEY CERTIFICATE]
"""

import sys

from socketify import App, AppListenOptions, AppOptions, CompressOptions, OpCode
from socketify.native import ffi, lib

rooms = {}


def upgrade(response, request, context):
    # There is one handle per room: the package would make a UUID, a tuple and a handle per connection, which would be
    # Python's memory and not that of uWebSockets.
    room = request.get_query("room")
    handle = rooms.get(room)
    if handle is None:
        handle = rooms[room] = ffi.new_handle((room, None))
    key = request.get_header("sec-websocket-key").encode()
    lib.uws_res_upgrade(response.app.SSL, response.res, handle, key, len(key), b"", 0, b"", 0, context)


def opened(ws):
    ws.subscribe(ws.get_user_data())
    ws.send("joined", OpCode.TEXT)


def message(ws, text, opcode):
    ws.publish(ws.get_user_data(), text, opcode)


options = None
if len(sys.argv) > 2:
    options = AppOptions(key_file_name=sys.argv[2], cert_file_name=sys.argv[3], ssl_prefer_low_memory_usage=1)
app = App(options)
app.ws(
    "/*",
    {
        "compression": CompressOptions.DISABLED,
        "max_payload_length": 1 << 20,
        # 0: no timeout, and so no pings.
        "idle_timeout": 0,
        "max_backpressure": 512 << 10,
        "upgrade": upgrade,
        "open": opened,
        "message": message,
    },
)
app.listen(AppListenOptions(port=int(sys.argv[1]), host="127.0.0.1"), lambda config: None)
# app.run() is not used, because it lets asyncio poll the loop ten thousand times a second. This call waits inside of libuv,
# as a server in C++ does.
app.loop.uv_loop.run()
