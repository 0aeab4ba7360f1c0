// Runs worklet.js with the little of an audio thread that it needs, and prints what came of it as JSON.
import { readFileSync } from "node:fs";
import vm from "node:vm";

function load(path, sampleRate) {
  const made = {};
  const scope = vm.createContext({
    sampleRate,
    currentTime: 0,
    Float32Array,
    AudioWorkletProcessor: class {
      constructor() {
        this.told = [];
        this.port = { postMessage: (message) => this.told.push(message) };
      }
    },
    registerProcessor: (name, kind) => (made[name] = kind),
  });
  vm.runInContext(readFileSync(path, "utf8"), scope);
  return made;
}

const tone = (rate, hertz, seconds) =>
  Float32Array.from({ length: Math.round(rate * seconds) }, (_, i) => 0.5 * Math.sin((2 * Math.PI * hertz * i) / rate));

// The rms of a tone's middle, and what is left of it besides the tone, which is found by least squares.
function measured(samples, rate, hertz) {
  const middle = samples.slice(samples.length / 4, (3 * samples.length) / 4);
  let [sine, cosine] = [0, 0];
  middle.forEach((value, i) => {
    sine += (2 * value * Math.sin((2 * Math.PI * hertz * i) / rate)) / middle.length;
    cosine += (2 * value * Math.cos((2 * Math.PI * hertz * i) / rate)) / middle.length;
  });
  let rest = 0;
  middle.forEach((value, i) => {
    const angle = (2 * Math.PI * hertz * i) / rate;
    rest += (value - sine * Math.sin(angle) - cosine * Math.cos(angle)) ** 2;
  });
  return { amplitude: Math.hypot(sine, cosine), rest: Math.sqrt(rest / middle.length) };
}

const path = process.argv[2];
const result = { captured: [], played: [] };
for (const rate of [16000, 44100, 48000, 96000]) {
  for (const hertz of [440, 3000, 12000]) {
    const { capture } = load(path, rate);
    const made = new capture({ processorOptions: { rate: 16000 } });
    const input = hertz < rate / 2 ? tone(rate, hertz, 1) : new Float32Array(rate);
    for (let at = 0; at + 128 <= input.length; at += 128) made.process([[input.subarray(at, at + 128)]]);
    const out = made.told.flatMap((piece) => [...piece]);
    result.captured.push({ rate, hertz, samples: out.length, ...measured(out, 16000, hertz) });
  }
  const { playback } = load(path, rate);
  const made = new playback({ processorOptions: { rate: 16000 } });
  const input = tone(16000, 440, 0.96);
  const heard = [];
  const listen = (seconds) => {
    for (let i = 0; i < (seconds * rate) / 128; i++) {
      const block = new Float32Array(128);
      made.process([], [[block]]);
      heard.push(...block);
    }
  };
  made.port.onmessage({ data: { begin: true } });
  listen(0.05); // nothing there yet
  for (let chunk = 0; chunk < 6; chunk++) {
    made.port.onmessage({ data: { samples: input.subarray(1280 * chunk, 1280 * (chunk + 1)) } });
    listen(0.04);
  }
  const early = made.told.length;
  listen(0.5); // later than all that waits: a gap
  const gap = made.told.slice(early);
  for (let chunk = 6; chunk < 12; chunk++) {
    made.port.onmessage({ data: { samples: input.subarray(1280 * chunk, 1280 * (chunk + 1)) } });
  }
  made.port.onmessage({ data: { whole: true } });
  listen(1);
  const sound = heard.filter((value) => Math.abs(value) > 1e-3).length / rate;
  result.played.push({ rate, told: made.told, gap, sound_s: sound });
}
console.log(JSON.stringify(result));
