// Follows one task from a page, with tokens that the page's own backend gives it. No dependencies; copy it.
//
//     const tail = new TaskTail({ controlPlane, taskId, getToken, onEvent, onEnd, onTrouble });
//     await tail.send({ go: true }, "Answer");      // answers the task's question
//     await tail.cancel("changed my mind");
//     tail.close();
//
// getToken() returns a promise of a token. It is asked at the start, and again whenever the one before has ended: an
// EventSource connects again by itself, with its cursor, but gives up for good when it is refused, and does not say why.

const TERMINAL = ["task.succeeded", "task.failed", "task.cancelled", "task.expired"];
const PLATFORM = [
  "task.queued", "task.started", "task.retrying", "task.worker_lost", "task.handed_back", "task.rewind", "task.gap",
  "task.gone", "task.log", "task.step_started", "task.step_retrying", "task.step_finished", "task.checkpoint",
  "task.waiting", "task.received", "task.parked", "task.progress", ...TERMINAL,
];
// Refusals in a row after which something else is wrong than the token; ms before the first one is tried again.
const MOST_REFUSALS = 5;
const PAUSE = 500;

export class TaskTail {
  #options;
  #token = null;
  #source = null;
  #cursor = "start";
  #refusals = 0;
  #timer = null;
  #closed = false;

  constructor(options) {
    this.#options = { onEvent() {}, onEnd() {}, onTrouble() {}, ...options };
    this.#open();
  }

  // Sends a message to the task: what its wait_for_event gets.
  async send(data, type) {
    // The same key each time: a message that is sent again because its answer was lost is delivered once.
    return this.#call("/events", { type, data }, { "Idempotency-Key": crypto.randomUUID() });
  }

  async cancel(reason) {
    return this.#call("/cancel", { reason });
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#source?.close();
  }

  get #url() {
    return `${this.#options.controlPlane}/v1/tasks/${this.#options.taskId}`;
  }

  async #open() {
    try {
      this.#token = await this.#options.getToken();
    } catch (error) {
      this.#again(error);
      return;
    }
    if (this.#closed) return;
    const query = new URLSearchParams({ token: this.#token, from: this.#cursor });
    const source = this.#source = new EventSource(`${this.#url}/events?${query}`);
    source.onopen = () => { this.#refusals = 0; };
    source.onmessage = (message) => this.#show(message);
    for (const type of PLATFORM) source.addEventListener(type, (message) => this.#show(message));
    source.onerror = () => {
      // Otherwise it connects again by itself: the connection was lost, or the control plane asked for it.
      if (source.readyState === EventSource.CLOSED && !this.#closed) this.#refused();
    };
  }

  #show(message) {
    if (this.#closed || !message.data) return;
    const event = JSON.parse(message.data);
    this.#cursor = message.lastEventId;
    this.#options.onEvent(event);
    if (event.kind === "platform" && TERMINAL.includes(event.type)) {
      this.close();
      this.#options.onEnd(event);
    }
  }

  async #refused() {
    // The token has ended, most likely. If it is something else, asking for the task itself tells what.
    try {
      const response = await fetch(this.#url, { headers: { Authorization: `Bearer ${this.#token}` } });
      if (!response.ok && ![401, 429, 502, 503, 504].includes(response.status)) {
        this.close();
        this.#options.onTrouble(await trouble(response));
        return;
      }
    } catch {
      // It can't be reached: then it will be tried again.
    }
    this.#again(new Error("the stream was refused"));
  }

  #again(error) {
    if (this.#closed) return;
    if (++this.#refusals > MOST_REFUSALS) {
      this.close();
      this.#options.onTrouble(error);
      return;
    }
    // At once the first time; then longer and longer, with jitter, for all pages have the same troubles.
    const pause = this.#refusals === 1 ? 0 : PAUSE * 2 ** (this.#refusals - 2) * (0.5 + Math.random());
    this.#timer = setTimeout(() => this.#open(), pause);
  }

  async #call(path, body, headers = {}, isFresh = false) {
    const response = await fetch(this.#url + path, {
      method: "POST",
      headers: { Authorization: `Bearer ${this.#token}`, "Content-Type": "application/json", ...headers },
      body: JSON.stringify(body),
    });
    if (response.status === 401 && !isFresh) {
      this.#token = await this.#options.getToken();
      return this.#call(path, body, headers, true);
    }
    if (!response.ok) throw await trouble(response);
    return response.json();
  }
}

async function trouble(response) {
  const problem = await response.json().catch(() => ({}));
  return Object.assign(new Error(problem.detail ?? `HTTP ${response.status}`), { code: problem.code });
}
