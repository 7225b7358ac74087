// Sends with the `hot-shots` client from npm, UDP and TCP, and tells how many bytes that was. Usage: node hot_shots.js PORT
const StatsD = require("hot-shots");
const port = Number(process.argv[2]);
const bytes = {};

function send(client, way, done) {
  const { socket } = client, original = socket.send;
  // Over TCP each message gets a newline.
  const newline = way === "tcp" ? 1 : 0;
  socket.send = (buffer, ...rest) => { bytes[way] = (bytes[way] ?? 0) + buffer.length + newline; return original(buffer, ...rest); };
  client.increment("hs_hits", 2, { page: "home" });
  client.increment("hs_hits", 3, ["page:home"]);
  client.decrement("hs_hits", 1);
  client.gauge("hs_level", 12.5);
  client.timing("hs_time", 40);
  client.timing("hs_time", 60);
  client.distribution("hs_size", 1.5);
  client.distribution("hs_size", 10);
  client.unique("hs_users", "a");
  client.unique("hs_users", "b");
  client.unique("hs_users", "a");
  client.close(done);
}

const fail = (error) => { console.error(error); process.exit(1); };
const udp = new StatsD({ host: "127.0.0.1", port, globalTags: { way: "udp" }, maxBufferSize: 500, errorHandler: fail });
send(udp, "udp", (error) => {
  if (error) fail(error);
  const tcp = new StatsD({ host: "127.0.0.1", port, protocol: "tcp", globalTags: { way: "tcp" }, errorHandler: fail });
  send(tcp, "tcp", (error) => { if (error) fail(error); console.log(JSON.stringify(bytes)); });
});
