"use strict";

/**
 * Line charts that are drawn anew many times a second. The values of an epoch are shown under the pointer; the arrow
 * keys move over the epochs, whose values are then spoken. A sentence stands for the whole chart.
 *
 * @typedef {{name: string, colour: string, isDashed: boolean, points: Array<[number, ?number]>}} Series
 *   colour: a CSS variable such as "--accent"; points: epoch and value, null for none
 */
const Charts = (() => {
  const HEIGHT = 220, LEFT = 52, RIGHT = 10, TOP = 8, BOTTOM = 26; // in CSS pixels
  const STEPS = [1, 2, 2.5, 5, 10];
  const KEYS = "Arrow keys move over the epochs, Home and End to the first and the last. Escape leaves.";
  let chartCount = 0;

  /** Return round numbers between two ends, about `count` of them. @returns {number[]} */
  function ticksOf(low, high, count) {
    const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
    const step = power * STEPS.find((each) => each * power >= raw * 0.999);
    const ticks = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) ticks.push(k * step);
    return ticks;
  }

  class Lines {
    /** @param {HTMLElement} host  @param {{title: string, isFraction: boolean}} options */
    constructor(host, options) {
      const { element } = Figures, id = `chart-${++chartCount}`;
      this.options = options;
      /** @type {Series[]} */
      this.series = [];
      this.epoch = 0; // under the pointer or the keys; 0 for none
      this.byKeys = false;
      this.canvas = element("canvas", { tabIndex: 0 });
      this.canvas.setAttribute("role", "application");
      this.canvas.setAttribute("aria-roledescription", "chart");
      this.canvas.setAttribute("aria-labelledby", `${id}-title`);
      this.canvas.setAttribute("aria-describedby", `${id}-summary`);
      this.summary = element("span", { id: `${id}-summary`, className: "hidden" });
      this.readout = element("p", { className: "readout" });
      this.readout.setAttribute("aria-live", "off");
      this.area = element("div", { className: "area" }, this.canvas);
      const caption = element("figcaption", { id: `${id}-title` },
        element("span", { className: "title", textContent: options.title }));
      this.element = element("figure", { className: "numbers" }, caption, this.area, this.readout, this.summary);
      host.append(this.element);
      this.canvas.addEventListener("pointermove", (event) => this.moveTo(this.epochAt(event), false));
      this.canvas.addEventListener("pointerdown", (event) => this.moveTo(this.epochAt(event), false));
      this.canvas.addEventListener("pointerleave", () => this.moveTo(0, false));
      this.canvas.addEventListener("blur", () => this.byKeys && this.moveTo(0, false));
      this.canvas.addEventListener("keydown", (event) => this.onKey(event));
      for (const change of [Figures.dark, Figures.density]) change.addEventListener("change", () => this.paint());
      new ResizeObserver(() => this.paint()).observe(this.area);
    }

    /** Draw other numbers. @param {Series[]} series */
    draw(series) {
      this.series = series;
      this.paint();
    }

    /** Return the epochs that have a point, in order. @returns {number[]} */
    epochs() {
      const found = new Set();
      for (const { points } of this.series) for (const [epoch] of points) found.add(epoch);
      return [...found].sort((one, other) => one - other);
    }

    format(value) {
      return this.options.isFraction ? `${(100 * value).toFixed(2)} %` : Figures.format(value, 4);
    }

    /** Return the lowest and the highest number of the axis. */
    range() {
      let low = Infinity, high = -Infinity;
      for (const { points } of this.series) {
        for (const [, value] of points) {
          if (value === null) continue;
          if (value < low) low = value;
          if (value > high) high = value;
        }
      }
      if (low > high) return [0, 1];
      if (this.options.isFraction) return [Math.min(0.9, Math.floor(low * 10) / 10), 1];
      return [Math.min(0, low), high > 0 ? high * 1.03 : 1];
    }

    paint() {
      const width = this.area.clientWidth, ratio = devicePixelRatio || 1;
      if (!width) return;
      const [across, down] = [Math.round(width * ratio), Math.round(HEIGHT * ratio)];
      if (this.canvas.width !== across || this.canvas.height !== down) {
        [this.canvas.width, this.canvas.height] = [across, down];
        this.canvas.style.width = `${width}px`;
        this.canvas.style.height = `${HEIGHT}px`;
      }
      const context = this.canvas.getContext("2d"), style = getComputedStyle(this.canvas);
      const colour = (name) => style.getPropertyValue(name).trim();
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.clearRect(0, 0, width, HEIGHT);
      const [low, high] = this.range(), epochs = this.epochs();
      this.last = Math.max(2, epochs[epochs.length - 1] || 0);
      this.width = width;
      const x = (epoch) => LEFT + ((epoch - 1) / (this.last - 1)) * (width - LEFT - RIGHT);
      const y = (value) => TOP + ((high - value) / (high - low)) * (HEIGHT - TOP - BOTTOM);
      context.font = `12px ${style.fontFamily}`;
      context.fillStyle = colour("--soft");
      context.strokeStyle = colour("--line");
      context.lineWidth = 1;
      context.textAlign = "right";
      context.textBaseline = "middle";
      for (const tick of ticksOf(low, high, 5)) {
        context.beginPath();
        context.moveTo(LEFT, y(tick));
        context.lineTo(width - RIGHT, y(tick));
        context.stroke();
        const text = this.options.isFraction ? `${Number((100 * tick).toFixed(2))} %` : Figures.format(tick, 3);
        context.fillText(text, LEFT - 6, y(tick));
      }
      context.textAlign = "center";
      context.textBaseline = "top";
      for (const tick of ticksOf(1, this.last, Math.max(2, Math.floor(width / 90)))) {
        if (Number.isInteger(tick)) context.fillText(String(tick), Math.min(x(tick), width - 14), HEIGHT - BOTTOM + 8);
      }
      for (const { colour: name, isDashed, points } of this.series) {
        context.strokeStyle = context.fillStyle = colour(name);
        context.lineWidth = 2;
        context.setLineDash(isDashed ? [6, 4] : []);
        context.beginPath();
        let isOpen = false;
        for (const [epoch, value] of points) {
          if (value === null) {
            isOpen = false;
          } else if (isOpen) {
            context.lineTo(x(epoch), y(value));
          } else {
            context.moveTo(x(epoch), y(value));
            isOpen = true;
          }
        }
        context.stroke();
        context.setLineDash([]);
        if (points.length === 1 && points[0][1] !== null) {
          context.beginPath();
          context.arc(x(points[0][0]), y(points[0][1]), 3, 0, 2 * Math.PI);
          if (isDashed) context.stroke();
          else context.fill();
        }
      }
      if (this.epoch) {
        context.strokeStyle = colour("--text");
        context.lineWidth = 1;
        context.beginPath();
        context.moveTo(x(this.epoch), TOP);
        context.lineTo(x(this.epoch), HEIGHT - BOTTOM);
        context.stroke();
      }
      this.say(epochs);
    }

    /** Return the values of an epoch in words. @param {number} epoch */
    valuesOf(epoch) {
      const texts = [];
      for (const { name, points } of this.series) {
        const found = points.find(([at]) => at === epoch);
        if (found && found[1] !== null) texts.push(`${name} ${this.format(found[1])}`);
      }
      return texts.length ? `Epoch ${epoch}: ${texts.join(", ")}` : `Epoch ${epoch}: no values`;
    }

    say(epochs) {
      const last = epochs[epochs.length - 1];
      const text = `${last ? `${this.valuesOf(last)}. ` : "No epoch has ended yet. "}${KEYS}`;
      if (this.summary.textContent !== text) this.summary.textContent = text;
      const readout = this.epoch ? this.valuesOf(this.epoch) : "";
      if (this.readout.textContent !== readout) this.readout.textContent = readout;
    }

    /** Return the epoch with a point that is nearest to the pointer; 0 for none. @param {PointerEvent} event */
    epochAt(event) {
      const epochs = this.epochs();
      if (!epochs.length) return 0;
      const place = event.clientX - this.canvas.getBoundingClientRect().left;
      const at = 1 + ((place - LEFT) / (this.width - LEFT - RIGHT)) * (this.last - 1);
      return epochs.reduce((best, each) => (Math.abs(each - at) < Math.abs(best - at) ? each : best));
    }

    /** @param {number} epoch @param {boolean} byKeys */
    moveTo(epoch, byKeys) {
      if (epoch === this.epoch && byKeys === this.byKeys) return;
      [this.epoch, this.byKeys] = [epoch, byKeys];
      this.readout.setAttribute("aria-live", byKeys ? "polite" : "off");
      this.paint();
    }

    /** @param {KeyboardEvent} event */
    onKey(event) {
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      const epochs = this.epochs(), at = epochs.indexOf(this.epoch), last = epochs.length - 1;
      const next = { ArrowRight: Math.min(at + 1, last), ArrowLeft: at < 0 ? last : Math.max(at - 1, 0), Home: 0, End: last };
      if (event.key === "Escape") this.moveTo(0, false);
      else if (event.key in next && epochs.length) this.moveTo(epochs[next[event.key]], true);
      else return;
      event.preventDefault();
    }
  }

  return { Lines };
})();
