// The page of examples/browser_tokens without a browser: node has fetch, and EventSource by a flag. It keeps the cookie
// that a browser would keep, and prints what the page would show, a JSON object a line. Reads "answer" from its stdin.

import { createInterface } from "node:readline";

const [backend, script, start, pause] = process.argv.slice(2);
const { TaskTail } = await import(script);

let cookie = "";
async function post(path, body) {
  const response = await fetch(backend + path, {
    method: "POST",
    headers: { "Content-Type": "application/json", Cookie: cookie },
    body: JSON.stringify(body),
  });
  cookie ||= (response.headers.get("set-cookie") ?? "").split(";")[0];
  if (!response.ok) throw new Error(`HTTP ${response.status}`);
  return response.json();
}

function print(what) { console.log(JSON.stringify(what)); }

const { task_id: taskId, control_plane: controlPlane } = await post("/launches", { start: +start, pause: +pause });
print({ taskId });
const tail = new TaskTail({
  controlPlane,
  taskId,
  async getToken() {
    const { token } = await post(`/launches/${taskId}/token`, {});
    print({ token });
    return token;
  },
  onEvent: (event) => print({ seq: event.seq, type: event.type, data: event.data }),
  onEnd(event) { print({ end: event.type }); process.exit(0); },
  onTrouble(error) { print({ trouble: String(error), code: error.code }); process.exit(1); },
});
for await (const line of createInterface({ input: process.stdin })) {
  if (line === "answer") print({ sent: await tail.send({ go: true }, "Answer") });
}
