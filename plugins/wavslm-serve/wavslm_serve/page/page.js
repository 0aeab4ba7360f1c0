// The page: a microphone or a recording, a session with the server, and what both sound like.

const $ = (id) => document.getElementById(id);
const AUDIO = 1; // the kind of a binary message
const PROMPTS = [
  ["prompts/question.flac", "a question"],
  ["prompts/story.flac", "the beginning of a story"],
  ["prompts/numbers.flac", "counting"],
];
const SILENCE_MS = 700; // after which a turn is over, hands-free
const SPEECH_DB = 12; // above the room's noise
const ENDINGS = {
  idle: "Nothing was said for long, so the conversation is over.",
  limit: "The conversation is over: its time is up.",
  shutdown: "The server was stopped, and the conversation is over.",
};
const GONE = "The server is gone: it was ended, or the connection is lost. Start it again, and begin anew.";

function say(text) {
  $("status").textContent = text;
}

function complain(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

// One session with the server: what was heard and said, in the order in which the model knows it.
class Session {
  constructor(options, told) {
    this.told = told;
    this.turns = []; // { who: "you" | "model", samples: Int16Array }
    this.later = []; // what is heard while it speaks; null where it is to speak again
    this.waiting = 0; // speakings that were asked for and are not over
    this.hushed = 0; // those of them that nobody wants to hear any more
    this.open = false;
    this.askedAt = 0;
    const address = new URL("v1/speech", location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    this.socket = new WebSocket(address);
    this.socket.binaryType = "arraybuffer";
    this.ready = new Promise((resolve, reject) => {
      this.socket.onopen = () => this.send({ type: "start", ...options });
      this.socket.onclose = () => {
        this.closed = true;
        this.open = false;
        reject(new Error(this.reason || GONE));
        told.ended(this.reason);
      };
      this.started = resolve;
    });
    this.ready.catch(() => {});
    this.socket.onmessage = ({ data }) => this.take(data);
  }

  get speaking() {
    return this.waiting > 0;
  }

  send(message) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  // Samples in [-1, 1], at the rate that the model hears.
  hear(samples) {
    if (!this.open) return;
    const message = new Uint8Array(1 + 2 * samples.length);
    const view = new DataView(message.buffer);
    const kept = new Int16Array(samples.length);
    message[0] = AUDIO;
    for (let i = 0; i < samples.length; i++) {
      kept[i] = Math.max(-32768, Math.min(32767, Math.round(samples[i] * 32768)));
      view.setInt16(1 + 2 * i, kept[i], true);
    }
    this.socket.send(message);
    (this.speaking ? this.later : this.turns).push({ who: "you", samples: kept });
  }

  speak(seconds) {
    this.askedAt = performance.now();
    if (this.waiting) this.later.push(null);
    this.waiting++;
    this.send({ type: "speak", seconds });
    this.told.begins();
  }

  take(data) {
    if (typeof data !== "string") {
      const view = new DataView(data, 1);
      const samples = new Int16Array(view.byteLength / 2);
      for (let i = 0; i < samples.length; i++) samples[i] = view.getInt16(2 * i, true);
      this.turns.push({ who: "model", samples });
      if (this.hushed) return;
      this.told.said(Float32Array.from(samples, (value) => value / 32768));
      return;
    }
    const message = JSON.parse(data);
    if (message.type === "started") {
      this.open = true;
      this.started(message);
    } else if (message.type === "spoke") {
      this.waiting--;
      for (let turn; (turn = this.later.shift()); ) this.turns.push(turn);
      if (this.hushed) this.hushed--;
      else this.told.spoke(message.samples);
    } else if (message.type === "error") {
      // The one error after which a session goes on.
      if (message.code === "nothing_heard") this.told.failed("Nothing was heard yet: hold the button while you talk.");
      else this.told.failed((this.reason = message.message));
    } else if (message.type === "ended") this.reason ||= ENDINGS[message.reason] || "The conversation is over.";
  }

  // What is still on its way belongs to the conversation, but is not to be heard.
  hush() {
    this.hushed = this.waiting;
    this.send({ type: "stop" });
  }

  end() {
    this.send({ type: "end" });
    this.socket.close();
  }

  // Both voices as a stereo WAV file, at the rate of the model's.
  async wav({ sample_rate_in: from, sample_rate: rate }) {
    const turns = [];
    for (const { who, samples } of this.turns) {
      turns.push({ who, samples: who === "you" && from !== rate ? await resampled(samples, from, rate) : samples });
    }
    const size = turns.reduce((sum, { samples }) => sum + samples.length, 0);
    const view = new DataView(new ArrayBuffer(44 + 4 * size));
    const text = (at, letters) => [...letters].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
    text(0, "RIFF");
    view.setUint32(4, 36 + 4 * size, true);
    text(8, "WAVEfmt ");
    view.setUint32(16, 16, true);
    view.setUint16(20, 1, true);
    view.setUint16(22, 2, true);
    view.setUint32(24, rate, true);
    view.setUint32(28, 4 * rate, true);
    view.setUint16(32, 4, true);
    view.setUint16(34, 16, true);
    text(36, "data");
    view.setUint32(40, 4 * size, true);
    let at = 44;
    for (const { who, samples } of turns) {
      for (const sample of samples) {
        view.setInt16(at + (who === "you" ? 0 : 2), sample, true);
        at += 4;
      }
    }
    return new Blob([view.buffer], { type: "audio/wav" });
  }
}

// 16-bit samples at another rate.
async function resampled(samples, from, to) {
  const offline = new OfflineAudioContext(1, Math.max(1, Math.round((samples.length * to) / from)), to);
  const buffer = new AudioBuffer({ length: Math.max(1, samples.length), sampleRate: from });
  buffer.copyToChannel(Float32Array.from(samples, (value) => value / 32768), 0);
  const source = new AudioBufferSourceNode(offline, { buffer });
  source.connect(offline.destination);
  source.start();
  const made = (await offline.startRendering()).getChannelData(0);
  return Int16Array.from(made, (value) => Math.max(-32768, Math.min(32767, Math.round(value * 32768))));
}

// Both directions of sound, at the browser's own rate. Made in a user's gesture, or browsers keep it silent.
class Sound {
  static async open(rates, told) {
    const sound = new Sound();
    sound.rates = rates;
    sound.context = new AudioContext({ latencyHint: "interactive" });
    await sound.context.audioWorklet.addModule("worklet.js");
    const analyser = () => new AnalyserNode(sound.context, { fftSize: 2048, smoothingTimeConstant: 0 });
    sound.analysers = { you: analyser(), model: analyser() };
    sound.playback = new AudioWorkletNode(sound.context, "playback", {
      numberOfInputs: 0,
      outputChannelCount: [1],
      processorOptions: { rate: rates.sample_rate },
    });
    sound.playback.port.onmessage = ({ data }) => told.played(data);
    sound.playback.connect(sound.analysers.model).connect(sound.context.destination);
    await sound.start();
    return sound;
  }

  // Raises: Error where there is nothing to play on; the browser itself would wait for it without an end.
  async start() {
    const late = new Promise((resolve) => setTimeout(resolve, 5000));
    await Promise.race([this.context.resume(), late]);
    if (this.context.state !== "running") {
      throw new Error("This browser has nothing to play sound on: connect a loudspeaker or headphones, and press again.");
    }
  }

  get listening() {
    return Boolean(this.stream);
  }

  // Raises: Error that says why there is no microphone.
  async listen(heard, lost) {
    if (this.stream) return;
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({
        // Made for telephones, these change a voice; with headphones there is no echo.
        audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1 },
      });
    } catch (error) {
      const said = {
        NotAllowedError: "The microphone was refused. Allow it for this page in the address bar, and press again.",
        NotFoundError: "There is no microphone. Plug one in, or use a recording below.",
        NotReadableError: "Another program has the microphone. Close it, and press again.",
      };
      throw new Error(said[error.name] || `The microphone cannot be used: ${error.message}`);
    }
    const [track] = this.stream.getAudioTracks();
    track.addEventListener("ended", () => {
      this.stream = null;
      lost();
    });
    const source = this.context.createMediaStreamSource(this.stream);
    this.capture = new AudioWorkletNode(this.context, "capture", {
      numberOfOutputs: 0,
      processorOptions: { rate: this.rates.sample_rate_in },
    });
    this.capture.port.onmessage = ({ data }) => heard(data);
    source.connect(this.analysers.you);
    source.connect(this.capture);
  }

  // Nothing of the microphone is heard, shown or sent while it is mute.
  mute(muted) {
    for (const track of this.stream?.getAudioTracks() || []) track.enabled = !muted;
  }

  // Play samples at the rate that the model hears; returns whether they were played to their end.
  async play(samples) {
    this.quiet();
    const buffer = new AudioBuffer({ length: samples.length, sampleRate: this.rates.sample_rate_in });
    buffer.copyToChannel(samples, 0);
    const source = (this.recording = new AudioBufferSourceNode(this.context, { buffer }));
    source.connect(this.analysers.you);
    source.connect(this.context.destination);
    source.start();
    await new Promise((ended) => (source.onended = ended));
    source.disconnect();
    return this.recording === source;
  }

  // Play no more of a recording.
  quiet() {
    const playing = this.recording;
    this.recording = null;
    playing?.stop();
  }

  // Seconds from what the audio thread gives out to what is heard.
  get delay() {
    return this.context.baseLatency + (this.context.outputLatency || 0);
  }

  // Samples of a recording, mono, at the rate that the model hears.
  async decoded(bytes) {
    const rate = this.rates.sample_rate_in;
    const buffer = await new OfflineAudioContext(1, 1, rate).decodeAudioData(bytes);
    const mono = new Float32Array(buffer.length);
    for (let c = 0; c < buffer.numberOfChannels; c++) {
      const channel = buffer.getChannelData(c);
      for (let i = 0; i < mono.length; i++) mono[i] += channel[i] / buffer.numberOfChannels;
    }
    return mono;
  }
}

// What keeps the page from working at all, if anything does.
function whyNot() {
  if (!window.isSecureContext) {
    return (
      `Browsers give neither microphone nor live sound to ${location.origin}, since it is not a secure context. Open ` +
      "the page at http://localhost on the machine that serves it, put a proxy with HTTPS in front, or bring the " +
      `server to your machine: ssh -L ${location.port || 80}:localhost:${location.port || 80} ${location.hostname}`
    );
  }
  return window.AudioWorkletNode && navigator.mediaDevices ? "" : "This browser is too old: it has no AudioWorklet.";
}

// Tells when somebody begins and ends to speak, by how much louder than the room it is.
class Turns {
  constructor() {
    this.floor = -60;
    this.loud = 0;
    this.quiet = 0;
    this.speaking = false;
  }

  // Returns "begin" or "end" when a piece of so many milliseconds makes it so.
  hear(level, ms) {
    this.floor = level < this.floor ? level : Math.min(this.floor + 0.003 * ms, -30);
    const loud = level > Math.max(this.floor + SPEECH_DB, -50);
    this.loud = loud ? this.loud + ms : 0;
    this.quiet = loud ? 0 : this.quiet + ms;
    if (!this.speaking && this.loud >= 60) {
      this.speaking = true;
      return "begin";
    }
    if (this.speaking && this.quiet >= SILENCE_MS) {
      this.speaking = false;
      return "end";
    }
    return "";
  }
}

function decibels(samples) {
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  return 10 * Math.log10(sum / samples.length + 1e-9);
}

const DARK = [11, 16, 32, 255]; // as in page.css

// Both voices as they are heard, a column a frame, newest at the right.
class Spectrogram {
  constructor(canvas, analysers, context) {
    this.canvas = canvas;
    this.paint = canvas.getContext("2d", { willReadFrequently: false });
    this.analysers = analysers;
    this.bins = Math.min(analysers.you.frequencyBinCount, Math.round((8000 / context.sampleRate) * 2048));
    this.bytes = new Uint8Array(analysers.you.frequencyBinCount);
    this.waves = new Float32Array(2048);
    this.column = new ImageData(1, canvas.height);
    this.last = performance.now();
    requestAnimationFrame((now) => this.draw(now));
  }

  draw(now) {
    requestAnimationFrame((next) => this.draw(next));
    const { width, height } = this.canvas;
    const moved = Math.floor(((now - this.last) / 12000) * width);
    if (moved < 1) return;
    this.last += (moved * 12000) / width;
    this.paint.drawImage(this.canvas, -moved, 0);
    for (let i = 0; i < this.column.data.length; i++) this.column.data[i] = DARK[i % 4];
    for (const [who, colour] of [["you", [42, 157, 143]], ["model", [231, 111, 81]]]) {
      this.analysers[who].getByteFrequencyData(this.bytes);
      for (let y = 0; y < height; y++) {
        const value = this.bytes[Math.floor(((height - 1 - y) / height) * this.bins)] / 255;
        for (let c = 0; c < 3; c++) this.column.data[4 * y + c] += 1.6 * value * value * colour[c];
      }
      this.analysers[who].getFloatTimeDomainData(this.waves);
      $(who === "you" ? "level-in" : "level-out").value = decibels(this.waves);
    }
    for (let x = Math.max(0, width - moved); x < width; x++) this.paint.putImageData(this.column, x, 0);
  }
}

// The page itself.
const state = { opening: null, sound: null, session: null, rates: null, held: false, latencies: [], turns: new Turns() };
window.wavslm = state; // for whoever looks at it with the browser's tools, and for the tests

function options() {
  const chosen = { seed: Math.max(0, Math.round(Number($("seed").value) || 0)) };
  const name = $("sampler").value;
  if (name) {
    chosen.sampler = { name };
    for (const input of document.querySelectorAll("[data-of] input")) {
      if (input.parentElement.dataset.of.split(" ").includes(name)) chosen.sampler[input.id] = Number(input.value);
    }
  }
  return chosen;
}

async function openSound() {
  const answer = await fetch("health").catch(() => Promise.reject(new Error(GONE)));
  state.rates = await answer.json();
  state.sound = await Sound.open(state.rates, { played });
  new Spectrogram($("spectrogram"), state.sound.analysers, state.sound.context);
}

// Opens sound and session if they are not; in a gesture of the user's.
async function begin() {
  complain("");
  state.opening ||= openSound();
  await state.opening.catch((error) => {
    state.opening = null;
    throw error;
  });
  await state.sound.start();
  if (!state.session || state.session.closed) {
    const session = new Session(options(), {
      begins: () => {
        state.sound.playback.port.postMessage({ begin: true });
        $("stop").disabled = false;
      },
      said: (samples) => state.sound.playback.port.postMessage({ samples }),
      spoke: () => {
        state.sound.playback.port.postMessage({ whole: true });
        $("stop").disabled = !session.speaking;
        $("save").disabled = false;
        if (!session.speaking) say($("hands-free").checked ? "It is your turn." : "Hold the button to go on.");
      },
      failed: complain,
      ended: (reason) => {
        if (state.session !== session) return;
        $("stop").disabled = true;
        letGo();
        state.sound.quiet();
        say("The conversation is over. Press the button for another one.");
        complain(reason || GONE);
      },
    });
    state.session = session;
    $("reset").disabled = false;
  }
  await state.session.ready;
  return state.session;
}

// To the first audio that is heard, from the end of what it speaks on after.
function played({ first, underruns, target }) {
  if (first !== undefined && state.session) {
    state.latencies.push(performance.now() - state.session.askedAt + 1000 * state.sound.delay);
    const sorted = [...state.latencies].sort((a, b) => a - b);
    const share = (part) => `${Math.round(sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))])} ms`;
    $("latency-50").textContent = share(0.5);
    $("latency-99").textContent = share(0.99);
  }
  if (underruns !== undefined) $("underruns").textContent = underruns;
  if (target !== undefined) $("buffer").textContent = `${Math.round(1000 * target)} ms`;
}

function speak() {
  say("The model speaks.");
  state.session.speak(Math.max(0.5, Math.min(Number($("seconds").value) || 4, state.rates.speak_s)));
}

function hush() {
  if (state.session?.speaking) state.session.hush();
  state.sound?.quiet();
  state.sound?.playback.port.postMessage({ clear: true });
  $("stop").disabled = true;
}

async function listen() {
  await state.sound.listen(heard, () => {
    letGo();
    complain("The microphone is gone. Plug it in, and press again.");
  });
  state.sound.mute(!(state.held || $("hands-free").checked));
}

function letGo() {
  state.held = false;
  $("talk").classList.remove("listening");
  state.sound?.mute(!$("hands-free").checked);
}

function heard(samples) {
  const handsFree = $("hands-free").checked;
  if (!state.session?.open || !(state.held || handsFree)) return;
  if (handsFree) {
    const turn = state.turns.hear(decibels(samples), (1000 * samples.length) / state.rates.sample_rate_in);
    if (turn === "begin") {
      hush();
      say("It listens.");
    }
    state.session.hear(samples);
    if (turn === "end") speak();
  } else state.session.hear(samples);
}

async function press() {
  if (state.held || $("hands-free").checked) return;
  state.held = true;
  $("talk").classList.add("listening");
  try {
    hush();
    await begin();
    await listen();
    say(state.held ? "It listens. Let go to hear it." : "The microphone is ready. Hold the button while you talk.");
  } catch (error) {
    letGo();
    complain(error.message);
  }
}

function release() {
  if (!state.held) return;
  letGo();
  if (state.sound?.listening && state.session?.open) speak();
}

async function continueRecording(bytes) {
  try {
    hush();
    const session = await begin();
    const samples = await state.sound.decoded(await bytes());
    const size = Math.floor((state.rates.message_bytes - 1) / 2);
    for (let at = 0; at < samples.length; at += size) session.hear(samples.subarray(at, at + size));
    say("The recording plays, and the model goes on after it.");
    $("stop").disabled = false;
    if ((await state.sound.play(samples)) && session === state.session) speak();
    else if (session.open && !state.held) say("Hold the button to go on.");
  } catch (error) {
    complain(error.name === "EncodingError" ? "That file is no audio that this browser reads." : error.message);
  }
}

function showOptions() {
  for (const label of document.querySelectorAll("[data-of]")) {
    label.hidden = !label.dataset.of.split(" ").includes($("sampler").value);
  }
}

function startAnew() {
  hush();
  state.session?.end();
  state.session = null;
  $("reset").disabled = $("save").disabled = true;
  say("The next conversation begins with what you say next.");
}

$("talk").addEventListener("pointerdown", (event) => {
  if (event.button) return;
  $("talk").setPointerCapture(event.pointerId);
  press();
});
$("talk").addEventListener("pointerup", release);
$("talk").addEventListener("pointercancel", release);
$("talk").addEventListener("contextmenu", (event) => event.preventDefault());
window.addEventListener("blur", release);
const ours = ({ code, target }) => code === "Space" && (target === document.body || target === $("talk"));
document.addEventListener("keydown", (event) => {
  if (!ours(event)) return;
  event.preventDefault();
  if (!event.repeat) press();
});
document.addEventListener("keyup", (event) => {
  if (!ours(event)) return;
  event.preventDefault();
  release();
});
// What a mouse has clicked would take the space bar from then on.
document.addEventListener("click", (event) => {
  if (event.detail) event.target.closest("button, [type=checkbox]")?.blur();
});
$("hands-free").addEventListener("change", async () => {
  $("talk").disabled = $("hands-free").checked;
  state.sound?.mute(!$("hands-free").checked);
  if (!$("hands-free").checked) return say("Hold the button to talk.");
  try {
    await begin();
    await listen();
    state.turns = new Turns();
    say("It is your turn.");
  } catch (error) {
    $("hands-free").checked = $("talk").disabled = false;
    complain(error.message);
  }
});
$("stop").addEventListener("click", hush);
$("reset").addEventListener("click", startAnew);
$("seed").addEventListener("change", startAnew);
$("sampler").addEventListener("change", () => {
  $("p").value = $("sampler").value === "min_p" ? 0.1 : 0.8;
  showOptions();
  startAnew();
});
for (const input of document.querySelectorAll("[data-of] input")) input.addEventListener("change", startAnew);
$("file").addEventListener("change", () => {
  const [file] = $("file").files;
  if (file) continueRecording(() => file.arrayBuffer());
  $("file").value = ""; // so that the same one can be chosen again
  $("file").blur();
});
for (const [address, about] of PROMPTS) {
  const button = document.createElement("button");
  button.textContent = about;
  button.addEventListener("click", () =>
    continueRecording(async () => (await fetch(address)).arrayBuffer()),
  );
  $("prompts").append(button);
}
$("save").addEventListener("click", async () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await state.session.wav(state.rates));
  link.download = "conversation.wav";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
});
showOptions();
if (whyNot()) {
  say("It cannot work at this address.");
  complain(whyNot());
  for (const part of document.querySelectorAll("button, input, select")) part.disabled = true;
}
