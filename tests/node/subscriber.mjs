// Reads N messages from a publisher of stream-i3d and checks their form, as a service in another language would.
//
//   node subscriber.mjs ENDPOINT N [TOPIC_PREFIX [MY.key_secret SERVICE.key]]
//
// With key files, `stream-i3d keys new` makes them, it speaks CURVE, and to nobody but the service of that key.
//
// Prints one JSON line and ends with 0; the first message of the wrong form ends it with 1 and says why.
//   received  messages read
//   labels    labels of the predictions and events among them, each once (null: idle or warming)
//   gaps      steps of window.last_frame from one prediction to the next that differ from the camera's commonest step
import { readFileSync } from "node:fs"
import { Subscriber } from "zeromq"

const score = { index: "number", label: "string", probability: "number", raw_probability: "number" }
const required = {
  prediction: {
    schema: "string", camera: "string", epoch: "number", seq: "number",
    window: { first_frame: "number", last_frame: "number", start_time: "number", end_time: "number" },
    state: "string", label: "string?", confidence: "number", top_k: [score],
    latency_ms: { queue: "number", inference: "number", total: "number" },
    frames_dropped: "number", windows_dropped: "number", model: { name: "string", checkpoint: "string" },
  },
  event: {
    schema: "string", camera: "string", id: "string", event: "string", label: "string",
    start_time: "number", end_time: "number?", peak_confidence: "number",
  },
  status: {
    schema: "string", camera: "string", state: "string", fps: "number", last_frame_age_s: "number?",
    reconnects: "number", frames_dropped: "number", detail: "string",
  },
}

function check(value, form, path) {
  if (Array.isArray(form)) {
    if (!Array.isArray(value)) throw new Error(`${path} is no list`)
    value.forEach((item, i) => check(item, form[0], `${path}[${i}]`))
  } else if (typeof form === "object") {
    if (value === null || typeof value !== "object") throw new Error(`${path} is no object`)
    for (const key of Object.keys(form)) check(value[key], form[key], `${path}.${key}`)
  } else if (!(form.endsWith("?") && value === null) && typeof value !== form.replace("?", "")) {
    throw new Error(`${path} is ${JSON.stringify(value)}, not ${form}`)
  }
}

function parse(parts) {
  if (parts.length !== 2) throw new Error(`${parts.length} parts, not [topic, JSON]`)
  const [topic, body] = parts.map(String)
  const found = /^v1\/([A-Za-z0-9_.-]{1,64})\/(prediction|event|status)$/.exec(topic)
  if (!found) throw new Error(`topic ${JSON.stringify(topic)} is not v1/<camera>/prediction|event|status`)
  const [, camera, kind] = found
  const message = JSON.parse(body)
  check(message, required[kind], kind)
  if (message.schema !== `stream-i3d/${kind}/1`) throw new Error(`schema ${message.schema} on ${topic}`)
  if (message.camera !== camera) throw new Error(`camera ${message.camera} on ${topic}`)
  return { kind, message }
}

// Distances between the predictions of each camera and epoch; the commonest is the step, every other one a gap.
class Strides {
  last = new Map()
  steps = new Map()

  add({ camera, epoch, window }) {
    const stream = `${camera}/${epoch}`
    if (this.last.has(stream)) {
      const step = window.last_frame - this.last.get(stream)
      const counts = this.steps.get(camera) ?? new Map()
      this.steps.set(camera, counts.set(step, (counts.get(step) ?? 0) + 1))
    }
    this.last.set(stream, window.last_frame)
  }

  gaps() {
    let gaps = 0
    for (const counts of this.steps.values()) {
      const numbers = [...counts.values()]
      gaps += numbers.reduce((sum, number) => sum + number, 0) - Math.max(...numbers)
    }
    return gaps
  }
}

function keyIn(path, kind) {
  const found = new RegExp(`^\\s*${kind}-key = "(.{40})"`, "m").exec(readFileSync(path, "utf8"))
  if (!found) throw new Error(`${path} has no ${kind} key`)
  return found[1]
}

const [endpoint, count, prefix = "v1/", mine, service] = process.argv.slice(2)
if (!endpoint || !(Number(count) > 0)) {
  console.error("usage: node subscriber.mjs ENDPOINT N [TOPIC_PREFIX [MY.key_secret SERVICE.key]]")
  process.exit(2)
}
const keys = mine && {
  curveServerKey: keyIn(service, "public"), curvePublicKey: keyIn(mine, "public"), curveSecretKey: keyIn(mine, "secret"),
}
const socket = new Subscriber({ linger: 0, ...keys })
socket.connect(endpoint)
socket.subscribe(prefix)
const labels = new Set()
const strides = new Strides()
let received = 0
try {
  for await (const parts of socket) {
    const { kind, message } = parse(parts)
    if (kind !== "status") labels.add(message.label)
    if (kind === "prediction") strides.add(message)
    if (++received >= Number(count)) break
  }
  console.log(JSON.stringify({ received, labels: [...labels], gaps: strides.gaps() }))
} catch (error) {
  console.error(`message ${received + 1}: ${error.message}`)
  process.exitCode = 1
} finally {
  socket.close()
}
