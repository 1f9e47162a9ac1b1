// A Socket.IO room server: clients `join` a room and say `pub` to all of it, themselves included.
// usage: node server.js PORT
"use strict";

const http = require("node:http");
const { Server } = require("socket.io");

const server = http.createServer();
const io = new Server(server, {
  transports: ["websocket"],
  perMessageDeflate: false,
  httpCompression: false,
  serveClient: false,
  // No ping falls into a run.
  pingInterval: 3_600_000,
  pingTimeout: 3_600_000,
  connectTimeout: 60_000,
});

io.on("connection", (socket) => {
  let room;
  socket.on("join", (name, ack) => {
    room = name;
    socket.join(name);
    ack("ok");
  });
  socket.on("pub", (payload) => io.to(room).emit("msg", payload));
});

server.listen({ host: "127.0.0.1", port: Number(process.argv[2]), backlog: 4096 });
