"use strict";

/**
 * Figures of numbers that are drawn anew many times a second: images of weights, of feature maps and of pixels, and
 * bars of outputs. Each is one canvas, in the colours of the package's other figures. The exact number of a cell is
 * shown under the pointer; the arrow keys move over the cells, whose numbers are then spoken. A sentence stands for the
 * whole figure.
 *
 * @typedef {{values: ArrayLike<number>, count: number, height: number, width: number, pixelStride?: number,
 *   starts?: ArrayLike<number>, limit?: number, low?: number, high?: number, outline?: ArrayLike<boolean>}} Pictures
 *   `count` images of `height` x `width` numbers in one array. Pixel p of image i is `values[starts[i] + p *
 *   pixelStride]`; by default, image after image, each row by row. The scale of signed numbers ends at `limit`, by
 *   default the magnitude that 99.5 % of the numbers do not exceed; that of ink is from `low` to `high`. A line is drawn
 *   around the cells for which `outline` is true, in each image.
 *
 * @typedef {{title: string, note?: string, quantity?: string, item?: (index: number) => string, size?: number,
 *   colours?: "signed" | "ink", onPick?: (index: number) => void, place?: (index: number, row: number,
 *   column: number) => string}} Options
 *   title: what the figure shows, its caption
 *   note: a sentence below the title
 *   quantity: what a number is, such as "weight"
 *   item: the name of an image or a bar, such as "unit 3"
 *   size: the preferred width of an image, or height of the bars, in CSS pixels
 *   onPick: called for an image or a bar that is clicked, or chosen by Enter
 *   place: the words for a cell, by default its item, row and column, counted from 0
 */
const Figures = (() => {
  const BLUE = "#0072B2", VERMILION = "#D55E00";
  /** The stops of each colour map, and the colours of lines: fastnn.plots draws with those for light pages. */
  const LOOKS = {
    light: {
      signed: [VERMILION, "#F7D9C4", "#FFFFFF", "#C2DDEE", BLUE], ink: ["#FFFFFF", "#000000"], frame: "#CCCCCC",
      positive: BLUE, negative: VERMILION, axis: "#5F5F5F", mark: "#000000", around: "#FFFFFF",
    },
    dark: {
      signed: ["#FF8C42", "#5E3B22", "#1B1B1B", "#1D4258", "#63BDF0"], ink: ["#101010", "#F2F2F2"], frame: "#4A4A4A",
      positive: "#63BDF0", negative: "#FF8C42", axis: "#A8A8A8", mark: "#FFFFFF", around: "#000000",
    },
  };
  const STEPS = 256; // a colour map has one colour more, so that 0 has the colour in the middle
  const SHOWN = 0.995; // the fraction of magnitudes that a scale covers, as fastnn.plots.weights.WEIGHTS_SHOWN
  const GAP = 5; // between images, in CSS pixels
  const KEYS = "Arrow keys move over the cells. Page Up and Page Down change the image. Escape leaves.";
  const BAR_KEYS = "Arrow keys move over the bars. Escape leaves.";

  const dark = matchMedia("(prefers-color-scheme: dark)");
  /** Sends "change" when the pixels of the screen become more or fewer, also if no size in CSS pixels changes. */
  const density = new EventTarget();
  (function watch() {
    matchMedia(`(resolution: ${devicePixelRatio || 1}dppx)`).addEventListener("change", () => {
      density.dispatchEvent(new Event("change"));
      watch();
    }, { once: true });
  })();
  /** @type {Map<string, Uint32Array>} */
  const tables = new Map();
  let figureCount = 0;

  const look = () => (dark.matches ? LOOKS.dark : LOOKS.light);

  /** @param {string} colour @returns {number[]} red, green and blue of "#RRGGBB" */
  const channels = (colour) => [1, 3, 5].map((start) => parseInt(colour.slice(start, start + 2), 16));

  /**
   * Return a colour map as pixels of an ImageData: red is in the lowest byte.
   * @param {"signed" | "ink"} name
   * @returns {Uint32Array}
   */
  function colourTable(name) {
    const key = name + dark.matches;
    let table = tables.get(key);
    if (!table) {
      const stops = look()[name].map(channels);
      table = new Uint32Array(STEPS + 1);
      for (let step = 0; step <= STEPS; step++) {
        const at = (step / STEPS) * (stops.length - 1), first = Math.min(Math.floor(at), stops.length - 2);
        const [red, green, blue] = stops[first].map(
          (from, channel) => Math.round(from + (at - first) * (stops[first + 1][channel] - from)));
        table[step] = (0xff000000 | (blue << 16) | (green << 8) | red) >>> 0;
      }
      tables.set(key, table);
    }
    return table;
  }

  /**
   * Return a number in at most `digits` significant digits, with a true minus sign.
   * @param {number} value
   * @param {number} [digits]
   */
  function format(value, digits = 4) {
    if (!Number.isFinite(value)) return String(value);
    const size = Math.abs(value);
    const text = size !== 0 && (size < 1e-4 || size >= 1e7)
      ? value.toExponential(digits - 1) : String(Number(value.toPrecision(digits)));
    return text.replace("-", "\u2212");
  }

  /**
   * Return the magnitude that a fraction of the numbers does not exceed, by a histogram: exact to a 4096th of the
   * largest, without sorting. 1 if all are 0.
   * @param {ArrayLike<number>} values
   * @param {number} [fraction]
   */
  function magnitudeOf(values, fraction = SHOWN) {
    const BINS = 4096;
    let largest = 0, finite = 0;
    for (let i = 0; i < values.length; i++) {
      const size = Math.abs(values[i]);
      if (size < Infinity) {
        finite += 1;
        if (size > largest) largest = size;
      }
    }
    if (largest === 0) return 1;
    if (fraction >= 1 || finite < 2) return largest;
    const counts = new Uint32Array(BINS + 1);
    for (let i = 0; i < values.length; i++) {
      const size = Math.abs(values[i]);
      if (size < Infinity) counts[Math.floor((size / largest) * BINS)] += 1;
    }
    let above = finite - 1 - Math.floor(fraction * (finite - 1)), bin = BINS;
    while (bin > 0 && above >= counts[bin]) above -= counts[bin--];
    return (largest * Math.min(bin + 1, BINS)) / BINS;
  }

  /**
   * Create an element with properties and children.
   * @param {string} tag
   * @param {Object<string, any>} [properties]
   * @param {...(Node | string)} children
   */
  function element(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  /**
   * The frame of a figure: a caption, a canvas with its keys, the exact number below. Subclasses lay out and draw.
   */
  class Figure {
    /** @param {HTMLElement} host  @param {Options} options  @param {string} keys */
    constructor(host, options, keys) {
      this.options = options;
      this.cursor = -1; // the cell under the pointer or the keys
      this.byKeys = false;
      this.pixelRatio = 1;
      const id = `figure-${++figureCount}`;
      this.caption = element("figcaption", { id: `${id}-title` }, element("span", { className: "title", textContent: options.title }));
      if (options.note) this.caption.append(" ", element("span", { className: "note", textContent: options.note }));
      this.canvas = element("canvas", { tabIndex: 0 });
      this.summary = element("span", { id: `${id}-summary`, className: "hidden" });
      this.canvas.setAttribute("role", "application");
      this.canvas.setAttribute("aria-roledescription", "figure");
      this.canvas.setAttribute("aria-labelledby", `${id}-title`);
      this.canvas.setAttribute("aria-describedby", `${id}-summary`);
      this.readout = element("p", { className: "readout" });
      this.readout.setAttribute("aria-live", "off");
      this.keys = keys;
      this.area = element("div", { className: "area" }, this.canvas);
      this.scale = element("div", { className: "scale" });
      this.scale.setAttribute("aria-hidden", "true");
      this.element = element(
        "figure", { className: "numbers" }, this.caption, this.area, this.scale, this.readout, this.summary);
      host.append(this.element);
      this.controller = new AbortController();
      const listen = (/** @type {EventTarget} */ target, /** @type {string} */ type, /** @type {any} */ handler) =>
        target.addEventListener(type, handler, { signal: this.controller.signal });
      listen(this.canvas, "pointermove", (event) => this.moveTo(this.cellAt(event), false));
      listen(this.canvas, "pointerdown", (event) => this.moveTo(this.cellAt(event), false));
      listen(this.canvas, "pointerleave", (event) => event.pointerType === "mouse" && this.moveTo(-1, false));
      listen(this.canvas, "click", (event) => this.pick(this.cellAt(event)));
      listen(this.canvas, "keydown", (event) => this.onKey(event));
      listen(this.canvas, "blur", () => this.byKeys && this.moveTo(-1, false));
      listen(dark, "change", () => this.redraw());
      listen(density, "change", () => this.resize());
      this.observer = new ResizeObserver(() => this.resize());
      this.observer.observe(this.area);
      this.showValue();
    }

    /** Stop listening, and remove the figure from the page. */
    remove() {
      this.controller.abort();
      this.observer.disconnect();
      this.element.remove();
    }

    /** Change the title, and the note if one is given. @param {string} title @param {string} [note] */
    rename(title, note) {
      this.options.title = title;
      this.caption.firstElementChild.textContent = title;
      const old = this.caption.querySelector(".note");
      if (note !== undefined && old) old.textContent = note;
    }

    /** Lay out anew if the width or the resolution of the figure has changed. */
    resize() {
      const width = this.area.clientWidth;
      if (width && (width !== this.width || devicePixelRatio !== this.pixelRatio)) this.redraw();
    }

    redraw() {
      if (!this.hasData() || !this.area.clientWidth) return;
      this.width = this.area.clientWidth;
      this.pixelRatio = devicePixelRatio || 1;
      this.layOut();
      this.paint();
      this.showScale();
      this.showValue();
    }

    /** Give the canvas this size in device pixels, if it has another one. @param {number} width @param {number} height */
    setSize(width, height) {
      if (this.canvas.width !== width || this.canvas.height !== height) {
        this.canvas.width = width;
        this.canvas.height = height;
      }
      this.canvas.style.width = `${width / this.pixelRatio}px`;
      this.canvas.style.height = `${height / this.pixelRatio}px`;
    }

    /** Return the place of an event in device pixels of the canvas. @param {PointerEvent} event */
    placeOf(event) {
      const box = this.canvas.getBoundingClientRect();
      return [
        ((event.clientX - box.left) / box.width) * this.canvas.width,
        ((event.clientY - box.top) / box.height) * this.canvas.height,
      ];
    }

    /** Show the number of a cell; -1 for none. @param {number} cell @param {boolean} byKeys */
    moveTo(cell, byKeys) {
      if (cell === this.cursor && byKeys === this.byKeys) return;
      this.cursor = cell;
      this.byKeys = byKeys;
      this.readout.setAttribute("aria-live", byKeys ? "polite" : "off");
      this.showValue();
      this.paint();
    }

    showValue() {
      if (this.cursor >= this.cellCount()) this.cursor = -1;
      const text = this.cursor < 0 ? "" : this.describe(this.cursor);
      // A live region is not touched by data that change under the cursor ten times a second.
      if (this.byKeys && this.cursor === this.spoken && this.cursor >= 0) this.readout.setAttribute("aria-live", "off");
      this.spoken = this.byKeys ? this.cursor : -1;
      if (this.readout.textContent !== text) this.readout.textContent = text;
    }

    /** @param {KeyboardEvent} event */
    onKey(event) {
      if (event.ctrlKey || event.altKey || event.metaKey || !this.hasData()) return;
      if (event.key === "Escape") {
        this.moveTo(-1, false);
      } else if ((event.key === "Enter" || event.key === " ") && this.options.onPick && this.cursor >= 0) {
        this.pick(this.cursor);
      } else {
        const next = this.nextCell(event.key, Math.max(this.cursor, 0));
        if (next < 0) return;
        this.moveTo(this.cursor < 0 ? 0 : next, true);
      }
      event.preventDefault();
    }

    /** @param {number} cell */
    pick(cell) {
      if (cell >= 0 && this.options.onPick) this.options.onPick(this.itemOf(cell));
    }

    /** The name of an image or a bar. @param {number} index */
    itemName(index) {
      return this.options.item ? this.options.item(index) : `number ${index}`;
    }

    /** Set the text alternative. @param {string} text */
    summarize(text) {
      const whole = `${text} ${this.keys}`;
      if (this.summary.textContent !== whole) this.summary.textContent = whole;
    }
  }

  /** Images of numbers, side by side in one canvas. */
  class Images extends Figure {
    /** @param {HTMLElement} host  @param {Options} options */
    constructor(host, options) {
      super(host, options, KEYS);
      this.buffer = document.createElement("canvas");
      /** @type {Pictures | null} */
      this.data = null;
    }

    hasData() { return this.data !== null; }

    cellCount() { return this.data ? this.data.count * this.data.height * this.data.width : 0; }

    /**
     * Draw other numbers. The arrays are kept until the next call, for another size of the page.
     * @param {Pictures} data
     */
    draw(data) {
      const size = data.height * data.width, old = this.data;
      this.data = data;
      this.stride = data.pixelStride || 1;
      this.starts = data.starts || Float64Array.from({ length: data.count }, (_, image) => image * size);
      const sameShape = old && old.count === data.count && old.height === data.height && old.width === data.width;
      if (sameShape && this.width) {
        this.paint();
        this.showScale();
        this.showValue();
      } else {
        this.redraw();
      }
    }

    /** Choose the size of a pixel, whole in device pixels, and the number of columns. */
    layOut() {
      const { count, height, width } = this.data, ratio = this.pixelRatio;
      const room = Math.floor(this.width * ratio) - 2, preferred = (this.options.size || 64) * ratio * (count > 30 && this.width < 480 ? 0.75 : 1);
      this.pixel = Math.max(1, Math.min(Math.round(preferred / Math.max(width, height * 0.5)), Math.floor(room / width)));
      this.gap = Math.round(GAP * ratio);
      this.stepX = width * this.pixel + this.gap + 2; // with a frame of a pixel on each side
      this.stepY = height * this.pixel + this.gap + 2;
      this.columns = Math.max(1, Math.min(count, Math.floor((room + this.gap + 2) / this.stepX)));
      const lines = Math.ceil(count / this.columns);
      this.setSize(this.columns * this.stepX - this.gap, Math.max(1, lines) * this.stepY - this.gap);
      this.buffer.width = width;
      this.buffer.height = height * count;
      this.bufferContext = this.buffer.getContext("2d");
      this.image = this.bufferContext.createImageData(width, Math.max(1, height * count));
      this.pixels = new Uint32Array(this.image.data.buffer);
      this.cells = new Float64Array(count * height * width);
    }

    /** Copy the numbers, image after image. Units that are neighbours in memory, as those of a weight, are read together. */
    gather() {
      const { values, count, height, width } = this.data, { starts, stride, cells } = this, size = height * width;
      if (stride === 1) {
        for (let image = 0, cell = 0; image < count; image++) {
          for (let pixel = 0, at = starts[image]; pixel < size; pixel++) cells[cell++] = values[at++];
        }
      } else {
        for (let pixel = 0; pixel < size; pixel++) {
          for (let image = 0, cell = pixel; image < count; image++, cell += size) {
            cells[cell] = values[starts[image] + pixel * stride];
          }
        }
      }
    }

    /** Find the ends of the scale and the text, and colour every number. */
    colour() {
      this.gather();
      const { cells, pixels } = this, isSigned = this.options.colours !== "ink";
      const table = colourTable(isSigned ? "signed" : "ink");
      let lowest = 0, highest = 0;
      for (let cell = 0; cell < cells.length; cell++) {
        if (cells[cell] < cells[lowest] || cells[lowest] !== cells[lowest]) lowest = cell;
        if (cells[cell] > cells[highest] || cells[highest] !== cells[highest]) highest = cell;
      }
      const low = cells[lowest], high = cells[highest];
      this.range = { low, high, lowest, highest };
      const limit = this.data.limit || (isSigned ? magnitudeOf(cells) : 1);
      this.ends = isSigned ? [-limit, limit] : [this.data.low ?? Math.min(0, low), this.data.high ?? Math.max(high, 1e-9)];
      const [from, to] = this.ends, factor = STEPS / (to - from);
      for (let cell = 0; cell < cells.length; cell++) {
        const step = (cells[cell] - from) * factor + 0.5;
        pixels[cell] = step >= STEPS ? table[STEPS] : step >= 0 ? table[step | 0] : step < 0 ? table[0] : 0; // NaN: no colour
      }
    }

    paint() {
      if (!this.data || !this.image) return;
      this.colour();
      const { count, height, width } = this.data, context = this.canvas.getContext("2d"), colours = look();
      this.bufferContext.putImageData(this.image, 0, 0);
      context.clearRect(0, 0, this.canvas.width, this.canvas.height);
      context.imageSmoothingEnabled = false;
      context.fillStyle = colours.frame;
      for (let image = 0; image < count; image++) {
        const [left, top] = this.corner(image), across = width * this.pixel, down = height * this.pixel;
        context.fillRect(left - 1, top - 1, across + 2, down + 2);
        context.clearRect(left, top, across, down);
        context.drawImage(this.buffer, 0, image * height, width, height, left, top, across, down);
      }
      if (this.data.outline) this.paintOutline();
      if (this.chosen !== undefined && this.chosen < count) this.paintRing(this.chosen, 0, 0, height, width, 2);
      if (this.cursor >= 0) {
        const pixel = this.cursor % (height * width), image = (this.cursor - pixel) / (height * width);
        this.paintRing(image, Math.floor(pixel / width), pixel % width, 1, 1, 1);
      }
      const { low, high, lowest, highest } = this.range, quantity = this.options.quantity || "number";
      const extent = count === 1 ? `An image of ${height} by ${width}` : `${count} images of ${height} by ${width}`;
      this.summarize(
        `${extent}. Lowest ${quantity} ${format(low)} at ${this.placeName(lowest)}, highest ${format(high)} at ` +
        `${this.placeName(highest)}.`);
    }

    paintOutline() {
      const { count, height, width, outline } = this.data, context = this.canvas.getContext("2d"), size = this.pixel;
      context.fillStyle = look().mark;
      const thickness = Math.max(1, Math.round(this.pixelRatio * 0.6)), isIn = (row, column) =>
        row >= 0 && row < height && column >= 0 && column < width && outline[row * width + column] === true;
      for (let image = 0; image < count; image++) {
        const [left, top] = this.corner(image);
        for (let row = 0; row <= height; row++) {
          for (let column = 0; column <= width; column++) {
            const x = left + column * size, y = top + row * size, here = isIn(row, column);
            if (here !== isIn(row - 1, column)) context.fillRect(x, y, size, thickness);
            if (here !== isIn(row, column - 1)) context.fillRect(x, y, thickness, size);
          }
        }
      }
    }

    /** Draw a ring around a part of an image. */
    paintRing(image, row, column, height, width, weight) {
      const [left, top] = this.corner(image), context = this.canvas.getContext("2d"), unit = weight * this.pixelRatio;
      const box = [left + column * this.pixel, top + row * this.pixel, width * this.pixel, height * this.pixel];
      [[look().around, 3 * unit], [look().mark, 1.5 * unit]].forEach(([colour, line]) => {
        context.strokeStyle = /** @type {string} */ (colour);
        context.lineWidth = /** @type {number} */ (line);
        context.strokeRect(box[0] - unit / 2, box[1] - unit / 2, box[2] + unit, box[3] + unit);
      });
    }

    /** Mark an image with a ring; undefined for none. @param {number | undefined} image */
    choose(image) {
      this.chosen = image;
      this.paint();
    }

    /** @param {number} image @returns {number[]} left and top in device pixels */
    corner(image) {
      return [1 + (image % this.columns) * this.stepX, 1 + Math.floor(image / this.columns) * this.stepY];
    }

    /** @param {PointerEvent} event */
    cellAt(event) {
      if (!this.data) return -1;
      const [x, y] = this.placeOf(event), { count, height, width } = this.data;
      const across = Math.floor(x / this.stepX), image = Math.floor(y / this.stepY) * this.columns + across;
      if (x < 0 || y < 0 || across >= this.columns || image >= count) return -1;
      const [left, top] = this.corner(image);
      const row = Math.floor((y - top) / this.pixel), column = Math.floor((x - left) / this.pixel);
      return row >= 0 && row < height && column >= 0 && column < width ? (image * height + row) * width + column : -1;
    }

    /** Return the cell that a key leads to, or -1. The next image follows at the border of an image. */
    nextCell(key, cell) {
      const { count, height, width } = this.data, size = height * width;
      const pixel = cell % size, image = (cell - pixel) / size, row = Math.floor(pixel / width), column = pixel % width;
      const at = (/** @type {number} */ i, /** @type {number} */ r, /** @type {number} */ c) =>
        i >= 0 && i < count ? (i * height + r) * width + c : cell;
      switch (key) {
        case "ArrowRight": return column + 1 < width ? cell + 1 : at(image + 1, row, 0);
        case "ArrowLeft": return column > 0 ? cell - 1 : at(image - 1, row, width - 1);
        case "ArrowDown": return row + 1 < height ? cell + width : at(image + this.columns, 0, column);
        case "ArrowUp": return row > 0 ? cell - width : at(image - this.columns, height - 1, column);
        case "PageDown": return at(image + 1, row, column);
        case "PageUp": return at(image - 1, row, column);
        case "Home": return 0;
        case "End": return this.cellCount() - 1;
        default: return -1;
      }
    }

    itemOf(cell) { return Math.floor(cell / (this.data.height * this.data.width)); }

    placeName(cell) {
      const { count, height, width } = this.data, pixel = cell % (height * width), image = this.itemOf(cell);
      const row = Math.floor(pixel / width), column = pixel % width;
      if (this.options.place) return this.options.place(image, row, column);
      const item = count > 1 || this.options.item ? this.itemName(image) : "";
      const place = height * width > 1 ? `row ${row}, column ${column}` : "";
      return [item, place].filter(Boolean).join(", ");
    }

    describe(cell) {
      const place = this.placeName(cell), number = `${this.options.quantity || "number"} ${format(this.cells[cell], 6)}`;
      return place ? `${place}: ${number}` : number;
    }

    /** Draw the colour bar with the numbers at its ends. */
    showScale() {
      if (!this.range) return;
      if (!this.bar) {
        this.bar = element("canvas", { width: STEPS + 1, height: 1 });
        this.scaleEnds = [element("span"), element("span")];
        this.scale.append(this.scaleEnds[0], this.bar, this.scaleEnds[1]);
      }
      const isSigned = this.options.colours !== "ink", table = colourTable(isSigned ? "signed" : "ink");
      const image = new ImageData(STEPS + 1, 1);
      new Uint32Array(image.data.buffer).set(table);
      this.bar.getContext("2d").putImageData(image, 0, 0);
      this.scaleEnds.forEach((end, index) => {
        const isBeyond = index ? this.range.high > this.ends[1] : this.range.low < this.ends[0]; // and has the last colour
        const text = `${isBeyond ? (index ? "\u2265 " : "\u2264 ") : ""}${format(this.ends[index], 3)}`;
        if (end.textContent !== text) end.textContent = text;
      });
    }
  }

  /** Bars of the outputs of a layer, in as many lines as they need. */
  class Bars extends Figure {
    /** @param {HTMLElement} host  @param {Options} options */
    constructor(host, options) {
      super(host, options, BAR_KEYS);
      this.scale.remove();
      /** @type {ArrayLike<number> | null} */
      this.values = null;
    }

    hasData() { return this.values !== null; }

    cellCount() { return this.values ? this.values.length : 0; }

    /** Draw other numbers. The array is kept, not copied, until the next call. @param {ArrayLike<number>} values */
    draw(values) {
      const sameShape = this.values && this.values.length === values.length;
      this.values = values;
      if (sameShape && this.width) {
        this.paint();
        this.showValue();
      } else {
        this.redraw();
      }
    }

    layOut() {
      const room = Math.floor(this.width * this.pixelRatio), count = this.values.length;
      const widest = Math.round(24 * this.pixelRatio), narrowest = Math.round(7 * this.pixelRatio);
      this.step = Math.max(1, Math.min(widest, Math.max(narrowest, Math.floor(room / count))));
      this.perLine = Math.max(1, Math.min(count, Math.floor(room / this.step)));
      this.lineHeight = Math.round((this.options.size || 72) * this.pixelRatio);
      this.setSize(this.perLine * this.step, Math.max(1, Math.ceil(count / this.perLine)) * this.lineHeight);
    }

    paint() {
      if (!this.values || !this.step) return;
      const { values } = this, context = this.canvas.getContext("2d"), colours = look(), unit = Math.round(this.pixelRatio) || 1;
      let low = 0, high = 0, lowest = 0, highest = 0, zeros = 0;
      for (let i = 0; i < values.length; i++) {
        if (values[i] < values[lowest]) lowest = i;
        if (values[i] > values[highest]) highest = i;
        if (values[i] < low) low = values[i];
        if (values[i] > high) high = values[i];
        if (values[i] === 0) zeros += 1;
      }
      const room = this.lineHeight - 6 * unit, factor = high > low && high - low < Infinity ? room / (high - low) : 0;
      const above = Math.round(high * factor) + 3 * unit; // from the top of a line to 0
      context.clearRect(0, 0, this.canvas.width, this.canvas.height);
      const bar = Math.max(1, this.step - Math.max(1, Math.round(this.step * 0.15)));
      for (let i = 0; i < values.length; i++) {
        const left = (i % this.perLine) * this.step, zero = Math.floor(i / this.perLine) * this.lineHeight + above;
        const length = Math.round(values[i] * factor);
        context.fillStyle = values[i] < 0 ? colours.negative : colours.positive;
        context.fillRect(left, Math.min(zero, zero - length), bar, Math.abs(length));
        context.fillStyle = colours.axis;
        context.fillRect(left, zero, this.step, unit);
        if (values[i] === 0) context.fillRect(left + Math.floor(bar / 2), zero - 2 * unit, unit, 5 * unit); // has no bar
      }
      if (this.cursor >= 0) {
        const left = (this.cursor % this.perLine) * this.step, top = Math.floor(this.cursor / this.perLine) * this.lineHeight;
        context.strokeStyle = colours.mark;
        context.lineWidth = unit;
        context.strokeRect(left + unit / 2, top + unit / 2, Math.max(bar, 3 * unit) - unit, this.lineHeight - unit);
      }
      const quantity = this.options.quantity || "number";
      this.summarize(
        `${values.length} bars, ${values.length - zeros} of them not 0. Lowest ${quantity} ${format(values[lowest])}, ` +
        `${this.itemName(lowest)}; highest ${format(values[highest])}, ${this.itemName(highest)}.`);
    }

    showScale() {}

    cellAt(event) {
      if (!this.values) return -1;
      const [x, y] = this.placeOf(event), column = Math.floor(x / this.step);
      const cell = Math.floor(y / this.lineHeight) * this.perLine + column;
      return x >= 0 && y >= 0 && column < this.perLine && cell < this.values.length ? cell : -1;
    }

    nextCell(key, cell) {
      const last = this.values.length - 1;
      const within = (/** @type {number} */ next) => (next >= 0 && next <= last ? next : cell);
      switch (key) {
        case "ArrowRight": return within(cell + 1);
        case "ArrowLeft": return within(cell - 1);
        case "ArrowDown": return within(cell + this.perLine);
        case "ArrowUp": return within(cell - this.perLine);
        case "Home": return 0;
        case "End": return last;
        default: return -1;
      }
    }

    itemOf(cell) { return cell; }

    describe(cell) {
      return `${this.itemName(cell)}: ${this.options.quantity || "number"} ${format(this.values[cell], 6)}`;
    }
  }

  /** Return a probability as a percentage that is not rounded to certainty, as fastnn.evaluation.probability_text. */
  function percent(probability) {
    const HALF = 0.05;
    if (100 * probability < HALF) return "< 0.1 %";
    if (probability < 1 && 100 * (1 - probability) < HALF) return "> 99.9 %";
    return `${(100 * probability).toFixed(1)} %`;
  }

  /**
   * The probabilities of classes: a button, a bar and a number for each. Of many classes, the most probable are shown.
   */
  class Probabilities {
    /**
     * @param {HTMLElement} host
     * @param {{names: string[], title: string, most?: number, onChoose?: (index: number) => void,
     *   hint?: (name: string) => string}} options  hint: what the button of a class does
     */
    constructor(host, options) {
      this.options = options;
      this.readout = element("p", { className: "readout" });
      this.readout.setAttribute("aria-live", "off");
      this.rows = Array.from({ length: Math.min(options.names.length, options.most || 20) }, () => this.row());
      this.element = element(
        "figure", { className: "probabilities" }, element("figcaption", {}, element("span", { className: "title", textContent: options.title })),
        element("ul", {}, ...this.rows.map((row) => row.item)), this.readout);
      const longest = Math.max(...options.names.map((name) => name.length));
      this.element.style.setProperty("--name-width", `${Math.min(Math.max(longest, 2) + 1, 14)}ch`);
      host.append(this.element);
    }

    row() {
      const name = element("span", { className: "name" }), number = element("span", { className: "number" });
      const bar = element("span", { className: "bar" });
      const track = element("span", { className: "track" }, bar);
      track.setAttribute("aria-hidden", "true");
      const button = element("button", { type: "button" }, name, track, number);
      const row = { name, number, bar, button, item: element("li", {}, button), index: -1 };
      button.addEventListener("click", () => this.options.onChoose && this.options.onChoose(row.index));
      for (const type of ["pointerenter", "focus"]) button.addEventListener(type, () => this.show(row.index));
      for (const type of ["pointerleave", "blur"]) button.addEventListener(type, () => this.show(-1));
      return row;
    }

    /** Show the exact numbers of a class; -1 for none. @param {number} index */
    show(index) {
      this.shown = index;
      const { names } = this.options, value = index < 0 || !this.values ? undefined : this.values[index];
      const logit = this.logits && index >= 0 ? this.logits[index] : undefined;
      this.readout.textContent = value === undefined ? "" :
        `${names[index]}: probability ${format(value, 6)}${logit === undefined ? "" : `, logit ${format(logit, 6)}`}`;
    }

    /**
     * Draw other probabilities.
     * @param {ArrayLike<number>} values
     * @param {{logits?: ArrayLike<number>, chosen?: number, answer?: number}} [marks]  the sums before the softmax; the
     *   class whose button is pressed; the class that is the answer, -1 for none
     */
    draw(values, { logits, chosen = -1, answer = -1 } = {}) {
      this.values = values;
      this.logits = logits;
      const { names, hint } = this.options;
      let order = Array.from(values, (_, index) => index);
      if (order.length > this.rows.length) order.sort((a, b) => values[b] - values[a] || a - b);
      this.rows.forEach((row, place) => {
        const index = order[place], value = values[index];
        row.index = index;
        row.name.textContent = names[index];
        row.number.textContent = percent(value);
        row.bar.style.width = `${100 * Math.min(Math.max(value, 0), 1)}%`;
        row.item.classList.toggle("answer", index === answer);
        row.button.setAttribute("aria-pressed", String(index === chosen));
        if (hint) row.button.setAttribute("aria-label", `${names[index]}, ${percent(value)}: ${hint(names[index])}`);
      });
      this.show(this.shown ?? -1);
    }
  }

  /** How each thumbnail of the page is drawn again. @type {WeakMap<HTMLCanvasElement, function(): void>} */
  const thumbnails = new WeakMap();

  /**
   * Draw one image of ink into a canvas, a pixel for a number; its style gives the size. It follows the colour scheme.
   * @param {HTMLCanvasElement} canvas
   * @param {ArrayLike<number>} values
   * @param {number} height
   * @param {number} width
   * @param {[number, number]} [ends]  the numbers of the background and of full ink
   */
  function thumbnail(canvas, values, height, width, ends = [0, 255]) {
    thumbnails.set(canvas, () => thumbnail(canvas, values, height, width, ends));
    canvas.width = width;
    canvas.height = height;
    const table = colourTable("ink"), image = new ImageData(width, height), pixels = new Uint32Array(image.data.buffer);
    for (let i = 0; i < pixels.length; i++) {
      const step = Math.round(((values[i] - ends[0]) / (ends[1] - ends[0])) * STEPS);
      pixels[i] = table[Math.min(Math.max(step, 0), STEPS)];
    }
    canvas.getContext("2d").putImageData(image, 0, 0);
  }

  dark.addEventListener("change", () => {
    for (const canvas of document.querySelectorAll("canvas")) thumbnails.get(canvas)?.();
  });

  return { Images, Bars, Probabilities, thumbnail, format, percent, magnitudeOf, element, dark, density };
})();
