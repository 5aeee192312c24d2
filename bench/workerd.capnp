# Nothing but workerd and one line of JavaScript.
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [(name = "hello", worker = (
    modules = [(name = "hello.js", esModule =
      "export default { fetch() { return new Response('Hello, world!'); } };")],
    compatibilityDate = "2026-08-01"))],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "hello")]
);
