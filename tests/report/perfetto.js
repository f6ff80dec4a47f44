// Perfetto's engine as its page runs it, but outside a browser: node perfetto.js FOLDER TRACE SQL
// FOLDER has its engine_bundle.js and trace_processor.wasm; SQL selects one column of text. A row a line.
const fs = require("fs"), path = require("path"), vm = require("vm");
const [folder, trace, sql] = process.argv.slice(2);
console.log = console.warn; // what the engine says of its progress

// What the bundle, which is for a worker of a page, looks for around it.
process.type = "renderer";
globalThis.self = globalThis;
globalThis.location = { href: "http://localhost/" };
globalThis.WorkerGlobalScope = globalThis.importScripts = function () {};
globalThis.XMLHttpRequest = class {
  open(method, url) { this.response = fs.readFileSync(path.join(folder, path.basename(url))); }
  send() {}
};

// Requests are protocol buffers: perfetto/protos/trace_processor/trace_processor.proto.
const APPEND_TRACE_DATA = 1, FINALIZE_TRACE_DATA = 2, QUERY = 3;
function varint(value) {
  return value < 128 ? [value] : [value % 128 + 128, ...varint(Math.floor(value / 128))];
}
function field(number, value) {
  if (typeof value === "number") return Buffer.from([...varint(number * 8), ...varint(value)]);
  return Buffer.concat([Buffer.from([...varint(number * 8 + 2), ...varint(value.length)]), value]);
}
let requests = 0;
function request(method, ...args) {
  return field(1, Buffer.concat([field(1, requests++), field(2, method), ...args]));
}

vm.runInThisContext(fs.readFileSync(path.join(folder, "engine_bundle.js"), "utf8"));
const answers = [], port = { postMessage: (bytes) => answers.push(Buffer.from(bytes)) };
setImmediate(() => { // when the bundle has started the engine
  self.onmessage({ data: port });
  const ask = (...request_of) => port.onmessage({ data: new Uint8Array(request(...request_of)) });
  ask(APPEND_TRACE_DATA, field(101, fs.readFileSync(trace)));
  ask(FINALIZE_TRACE_DATA);
  answers.length = 0;
  ask(QUERY, field(103, field(1, Buffer.from(`SELECT char(2) || 'row ' || line || char(3) FROM (${sql})`))));
  for (const [, line] of Buffer.concat(answers).toString().matchAll(/\x02row (.*?)\x03/gs)) process.stdout.write(line + "\n");
});
