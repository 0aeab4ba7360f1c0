// What runs in the audio thread: the microphone brought to the model's rate, and the model's speech played without gaps.

const TAPS = 32; // of each phase
const PHASES = 512;

// A windowed sinc in many phases, for any ratio of rates; what comes in any pieces goes out as one sound.
class Resampler {
  constructor(from, to) {
    this.step = from / to;
    const cutoff = Math.min(1, to / from) * 0.95;
    // Where rates fall, the filter is as much longer as it is lower.
    this.taps = 2 * Math.ceil((TAPS / 2) / Math.min(1, to / from));
    this.table = [];
    for (let phase = 0; phase <= PHASES; phase++) {
      const row = new Float32Array(this.taps);
      let sum = 0;
      for (let tap = 0; tap < this.taps; tap++) {
        const x = tap - this.taps / 2 + 1 - phase / PHASES;
        const window = Math.abs(x) >= this.taps / 2 ? 0 : 0.5 + 0.5 * Math.cos((2 * Math.PI * x) / this.taps);
        const angle = Math.PI * x * cutoff;
        row[tap] = window * (x === 0 ? 1 : Math.sin(angle) / angle);
        sum += row[tap];
      }
      this.table.push(row.map((value) => value / sum));
    }
    this.reset();
  }

  reset() {
    this.held = new Float32Array(this.taps - 1);
    this.place = 0; // of the next sample, in samples that came in, from the first that is held
  }

  push(samples) {
    if (this.step === 1) return samples.slice();
    const joined = new Float32Array(this.held.length + samples.length);
    joined.set(this.held);
    joined.set(samples, this.held.length);
    const made = [];
    while (Math.floor(this.place) + this.taps <= joined.length) {
      const first = Math.floor(this.place);
      const row = this.table[Math.round((this.place - first) * PHASES)];
      let sum = 0;
      for (let tap = 0; tap < this.taps; tap++) sum += row[tap] * joined[first + tap];
      made.push(sum);
      this.place += this.step;
    }
    const used = Math.min(Math.floor(this.place), joined.length);
    this.held = joined.slice(used);
    this.place -= used;
    return Float32Array.from(made);
  }
}

// Sends what the microphone hears, at the model's rate, in pieces of 20 ms.
class Capture extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    this.resampler = new Resampler(sampleRate, processorOptions.rate);
    this.size = Math.round(processorOptions.rate / 50);
    this.piece = new Float32Array(this.size);
    this.filled = 0;
  }

  process([input]) {
    const channels = input.length;
    if (!channels) return true;
    let mono = input[0];
    if (channels > 1) {
      mono = mono.slice();
      for (let i = 0; i < mono.length; i++) {
        for (let c = 1; c < channels; c++) mono[i] += input[c][i];
        mono[i] /= channels;
      }
    }
    for (const sample of this.resampler.push(mono)) {
      this.piece[this.filled++] = sample;
      if (this.filled === this.size) {
        this.port.postMessage(this.piece, [this.piece.buffer]);
        this.piece = new Float32Array(this.size);
        this.filled = 0;
      }
    }
    return true;
  }
}

const LEAST_S = 0.04; // of sound that waits to be played, so that what comes a little late leaves no gap
const MOST_S = 0.6;

// Plays what comes. It waits until enough has come; a gap makes it wait longer, half a minute without one less long.
class Playback extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    this.resampler = new Resampler(processorOptions.rate, sampleRate);
    this.target = 2 * LEAST_S;
    this.held = this.resampler.step === 1 ? 0 : this.resampler.taps / this.resampler.step; // back by the filter
    this.underruns = 0;
    this.calm = 0; // samples played since the last gap
    this.clear();
    this.port.onmessage = ({ data }) => {
      if (data.samples) this.add(this.resampler.push(data.samples));
      if (data.whole) {
        // The filter holds the last samples back.
        if (this.resampler.step !== 1) this.add(this.resampler.push(new Float32Array(this.resampler.taps)));
        this.whole = true;
      }
      if (data.begin) {
        this.resampler.reset();
        this.whole = false;
        this.begun = false;
      }
      if (data.clear) this.clear();
    };
  }

  clear() {
    this.pieces = [];
    this.waiting = 0;
    this.offset = 0;
    this.playing = false;
    this.whole = true;
    this.begun = true;
  }

  add(samples) {
    if (!samples.length) return;
    this.pieces.push(samples);
    this.waiting += samples.length;
  }

  process(_inputs, [output]) {
    const out = output[0];
    if (!this.playing && this.waiting && (this.whole || this.waiting + this.held >= this.target * sampleRate)) {
      this.playing = true;
      if (!this.begun) this.port.postMessage({ first: currentTime, target: this.target });
      this.begun = true;
    }
    if (!this.playing) return true;
    let filled = 0;
    while (filled < out.length && this.pieces.length) {
      const piece = this.pieces[0];
      const count = Math.min(piece.length - this.offset, out.length - filled);
      out.set(piece.subarray(this.offset, this.offset + count), filled);
      filled += count;
      this.offset += count;
      this.waiting -= count;
      if (this.offset === piece.length) {
        this.pieces.shift();
        this.offset = 0;
      }
    }
    for (let c = 1; c < output.length; c++) output[c].set(out);
    this.calm += filled;
    if (filled < out.length) {
      this.playing = false;
      if (this.whole) this.port.postMessage({ done: true });
      else {
        this.underruns++;
        this.calm = 0;
        this.target = Math.min(1.5 * this.target, MOST_S);
        this.port.postMessage({ underruns: this.underruns, target: this.target });
      }
    } else if (this.calm > 30 * sampleRate) {
      this.calm = 0;
      this.target = Math.max(0.8 * this.target, LEAST_S);
      this.port.postMessage({ target: this.target });
    }
    return true;
  }
}

registerProcessor("capture", Capture);
registerProcessor("playback", Playback);
