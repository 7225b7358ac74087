// Sends with the `hot-shots` client from npm, UDP and TCP. Usage: node hot_shots.js PORT
const StatsD = require("hot-shots");
const port = Number(process.argv[2]);

function send(client, done) {
  client.increment("hs_hits", 2, { page: "home" });
  client.increment("hs_hits", 3, ["page:home"]);
  client.gauge("hs_level", 12.5);
  client.timing("hs_time", 40);
  client.timing("hs_time", 60);
  client.unique("hs_users", "a");
  client.unique("hs_users", "b");
  client.close(done);
}

const fail = (error) => { console.error(error); process.exit(1); };
const udp = new StatsD({ host: "127.0.0.1", port, globalTags: { way: "udp" }, maxBufferSize: 500, errorHandler: fail });
send(udp, (error) => {
  if (error) fail(error);
  const tcp = new StatsD({ host: "127.0.0.1", port, protocol: "tcp", globalTags: { way: "tcp" }, errorHandler: fail });
  send(tcp, (error) => { if (error) fail(error); console.log("ok"); });
});
