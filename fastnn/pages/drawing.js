"use strict";

/**
 * A pad to draw on: by mouse, finger or pen, by keyboard, or by a picture that is dropped, pasted or chosen.
 *
 *   const pad = Drawing.attach(canvas, { onChange, onStatus });
 *
 * onChange(pad) follows every change, at most once per frame while a stroke grows. onStatus(text) tells what the keys
 * did and why a file was not read; a page puts the text in an element with role="status".
 *
 * pad.pixels()       what Pictures.prepareImage takes: the picture, or the strokes in black on white
 * pad.isEmpty        whether nothing is drawn
 * pad.undo()         takes back the last stroke, picture or clearing; false if there is none
 * pad.clear()        empties the pad
 * pad.erasing        whether strokes erase; may be set. The eraser of a pen erases, too
 * pad.open(file)     reads a file into the pad; resolves to whether it was a picture
 * pad.show(picture)  puts a picture of Pictures.readFile into the pad
 * pad.detach()       removes the listeners
 *
 * The page sets the size of the canvas and its colours by CSS: `color` is the ink, `background` the paper. Neither
 * changes pixels(), which depends on the strokes alone. Strokes are kept in units of the canvas's width, and are drawn
 * again when its size or its colours change. The pressure of a pen is ignored: digits for training have even strokes.
 *
 * A picture replaces the drawing, and the first stroke on a picture starts a new drawing; undo brings either back.
 *
 * @typedef {{x: number, y: number}} Point in units of the canvas's width
 * @typedef {{kind: "ink"|"erase", points: Point[]}|{kind: "clear"}|{kind: "picture", picture: Object,
 *   bitmap: HTMLCanvasElement}} Item
 */
const Drawing = (() => {
  const LINE_WIDTH = 0.075;
  /** The width of pixels(); digits are found in at most 1024, and are 20 pixels high in the end. */
  const PREPARED_WIDTH = 280;
  const KEY_STEP = 0.025;
  const KEY_STEP_FINE = 0.005;
  const ERASER_BUTTON = 5;
  const ERASER_PRESSED = 32;
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const HELP = "Draw with the mouse, a finger or a pen. Or by keyboard: the arrow keys move the pen, with Shift in "
    + "small steps; Space puts it down and lifts it; E changes between pen and eraser; Z takes back the last "
    + "stroke; Delete clears. A picture can be dropped or pasted.";

  /**
   * Draw strokes.
   * @param {CanvasRenderingContext2D} context
   * @param {Item[]} items strokes
   * @param {number} scale pixels per unit
   * @param {string} ink a CSS colour
   * @param {?string} paper the colour of the eraser; null erases to transparency
   */
  function drawStrokes(context, items, scale, ink, paper) {
    context.save();
    context.lineCap = context.lineJoin = "round";
    context.lineWidth = LINE_WIDTH * scale;
    for (const { kind, points } of items) {
      const erases = kind === "erase";
      context.globalCompositeOperation = erases && paper === null ? "destination-out" : "source-over";
      context.strokeStyle = erases ? paper ?? "black" : ink;
      context.beginPath();
      const [first] = points, last = points[points.length - 1];
      if (points.length === 1) {
        context.fillStyle = context.strokeStyle;
        context.arc(first.x * scale, first.y * scale, context.lineWidth / 2, 0, 2 * Math.PI);
        context.fill();
        continue;
      }
      context.moveTo(first.x * scale, first.y * scale);
      // Curves between the middles of the segments, with the points as control points.
      for (let i = 1; i + 1 < points.length; i++) {
        const { x, y } = points[i], next = points[i + 1];
        context.quadraticCurveTo(x * scale, y * scale, (x + next.x) / 2 * scale, (y + next.y) / 2 * scale);
      }
      context.lineTo(last.x * scale, last.y * scale);
      context.stroke();
    }
    context.restore();
  }

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {{onChange?: function(Object): void, onStatus?: function(string): void}} options
   */
  function attach(canvas, { onChange = () => {}, onStatus = () => {} } = {}) {
    const context = canvas.getContext("2d");
    const page = canvas.ownerDocument, view = page.defaultView;
    /** @type {Item[]} every step since the start, oldest first */
    let items = [];
    /** @type {?{kind: "ink"|"erase", points: Point[]}} the stroke that is being drawn, also in items */
    let stroke = null;
    let pointer = null;
    let erasing = false;
    let frame = 0;
    let changed = false;
    const pen = { x: 0.5, y: 0.5, isDown: false, isVisible: false };
    const heldArrows = new Set();

    const height = () => canvas.height / canvas.width;

    /** Return what is seen: the picture (or null), and the strokes. */
    function visible() {
      let start = items.length;
      while (start > 0 && "points" in items[start - 1]) start--;
      const strokes = items.slice(start), before = items[start - 1];
      return { picture: !strokes.length && before?.kind === "picture" ? before : null, strokes };
    }

    function redraw() {
      fit();
      const scale = canvas.width, { picture, strokes } = visible();
      context.clearRect(0, 0, canvas.width, canvas.height);
      if (picture) {
        const { bitmap } = picture, fit = Math.min(canvas.width / bitmap.width, canvas.height / bitmap.height);
        const [width, tall] = [bitmap.width * fit, bitmap.height * fit];
        context.drawImage(bitmap, (canvas.width - width) / 2, (canvas.height - tall) / 2, width, tall);
      }
      const ink = view.getComputedStyle(canvas).color;
      drawStrokes(context, strokes, scale, ink, null);
      if (pen.isVisible) drawPen(scale, ink);
    }

    /** A ring of the pen's width: dashed while it is lifted, with a cross that shows its centre. */
    function drawPen(scale, ink) {
      const x = pen.x * scale, y = pen.y * scale, radius = Math.max(LINE_WIDTH * scale / 2, 6);
      const paper = view.getComputedStyle(canvas).backgroundColor;
      context.save();
      for (const [colour, width] of [[paper, 5], [ink, 2]]) {  // visible on ink and on paper
        context.strokeStyle = colour;
        context.lineWidth = width * (view.devicePixelRatio || 1);
        context.setLineDash(pen.isDown ? [] : [radius / 2, radius / 3]);
        context.beginPath();
        context.arc(x, y, radius + 2 * (view.devicePixelRatio || 1), 0, 2 * Math.PI);
        context.stroke();
        context.setLineDash([]);
        context.beginPath();
        context.moveTo(x - radius / 2, y);
        context.lineTo(x + radius / 2, y);
        context.moveTo(x, y - radius / 2);
        context.lineTo(x, y + radius / 2);
        context.stroke();
      }
      context.restore();
    }

    /** Redraw in the next frame, and tell the page then if the drawing has changed. */
    function update(isChange = true) {
      changed ||= isChange;
      frame ||= view.requestAnimationFrame(flush);
    }

    function flush() {
      view.cancelAnimationFrame(frame);
      frame = 0;
      redraw();
      if (changed) {
        changed = false;
        onChange(pad);
      }
    }

    function begin(kind, point) {
      stroke = { kind, points: [point] };
      items.push(stroke);
      update();
    }

    function liftPen() {
      if (pen.isDown) stroke = null;
      pen.isDown = false;
      heldArrows.clear();
    }

    // ---- mouse, finger, pen

    function pointOf(event) {
      const box = canvas.getBoundingClientRect();
      const width = canvas.clientWidth || 1;
      return { x: (event.clientX - box.left - canvas.clientLeft) / width,
               y: (event.clientY - box.top - canvas.clientTop) / width };
    }

    function onPointerDown(event) {
      const isEraser = event.button === ERASER_BUTTON;
      if (pointer !== null || (event.button !== 0 && !isEraser)) return;
      liftPen();
      pen.isVisible = false;
      pointer = event.pointerId;
      try {
        canvas.setPointerCapture(pointer);
      } catch {
        // The pointer of a synthetic event cannot be captured; its events arrive all the same.
      }
      begin(isEraser || event.buttons & ERASER_PRESSED || erasing ? "erase" : "ink", pointOf(event));
    }

    function onPointerMove(event) {
      if (event.pointerId !== pointer || !stroke) return;
      const coalesced = event.getCoalescedEvents?.() ?? [];
      for (const each of coalesced.length ? coalesced : [event]) addPoint(pointOf(each));
    }

    function addPoint(point) {
      const last = stroke.points[stroke.points.length - 1];
      if (point.x === last.x && point.y === last.y) return;
      stroke.points.push(point);
      update();
    }

    function onPointerUp(event) {
      if (event.pointerId !== pointer) return;
      onPointerMove(event);
      pointer = stroke = null;
      flush();
    }

    /** The browser takes the pointer away, as for a palm on the screen: the stroke was not meant. */
    function onPointerCancel(event) {
      if (event.pointerId !== pointer) return;
      items = items.filter((item) => item !== stroke);
      pointer = stroke = null;
      update();
    }

    // ---- keyboard

    function onKeyDown(event) {
      if (event.altKey) return;
      const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
      const isCommand = event.ctrlKey || event.metaKey;
      let action = null;
      if (key === "z" && !event.shiftKey) action = undo;
      else if (isCommand) return;
      else if (key in ARROWS) action = () => movePen(key, event.shiftKey ? KEY_STEP_FINE : KEY_STEP);
      else if (key === " ") action = event.repeat ? () => {} : togglePen;
      else if (key === "Delete" || key === "Backspace") action = clear;
      else if (key === "e") action = () => { pad.erasing = !erasing; };
      if (!action) return;
      event.preventDefault();
      pen.isVisible = true;
      action();
      update(false);
    }

    function onKeyUp(event) {
      heldArrows.delete(event.key);
    }

    /** Two arrow keys that are held together move the pen diagonally. */
    function movePen(key, step) {
      heldArrows.add(key);
      for (const held of heldArrows) {
        pen.x = Math.min(1, Math.max(0, pen.x + ARROWS[held][0] * step));
        pen.y = Math.min(height(), Math.max(0, pen.y + ARROWS[held][1] * step));
      }
      if (pen.isDown) addPoint({ x: pen.x, y: pen.y });
      sayPen();
    }

    function togglePen() {
      if (pen.isDown) liftPen();
      else {
        pen.isDown = true;
        begin(erasing ? "erase" : "ink", { x: pen.x, y: pen.y });
      }
      sayPen();
    }

    function sayPen() {
      const [across, down] = [pen.x, pen.y / height()].map((part) => Math.round(100 * part));
      onStatus(`${erasing ? "Eraser" : "Pen"} ${pen.isDown ? "down" : "up"}, ${across} % across, ${down} % down`);
    }

    function onBlur() {
      liftPen();
      pen.isVisible = false;
      update(false);
    }

    // ---- pictures

    function onDragOver(event) {
      if (event.dataTransfer?.types.includes("Files")) event.preventDefault();
    }

    function onDrop(event) {
      const [file] = event.dataTransfer?.files ?? [];
      if (!file) return;
      event.preventDefault();
      open(file);
    }

    function onPaste(event) {
      const [file] = event.clipboardData?.files ?? [];
      if (!file) return;
      event.preventDefault();
      open(file);
    }

    /**
     * @param {File|Blob} file
     * @returns {Promise<boolean>}
     */
    async function open(file) {
      try {
        show(await Pictures.readFile(file));
        return true;
      } catch (error) {
        if (!(error instanceof Pictures.DataError)) throw error;
        onStatus(error.message);
        return false;
      }
    }

    /** @param {{width: number, height: number, data: Uint8ClampedArray}} picture RGBA */
    function show(picture) {
      const bitmap = page.createElement("canvas");
      [bitmap.width, bitmap.height] = [picture.width, picture.height];
      bitmap.getContext("2d").putImageData(new ImageData(picture.data, picture.width, picture.height), 0, 0);
      liftPen();
      items.push({ kind: "picture", picture, bitmap });
      onStatus(`A picture of ${picture.width} x ${picture.height} pixels`);
      flushChange();
    }

    // ---- what the page calls

    function flushChange() {
      changed = true;
      flush();
    }

    function undo() {
      if (pointer !== null) return false;
      liftPen();
      const last = items.pop();
      onStatus(last ? `Took back the last ${{ clear: "clearing", picture: "picture" }[last.kind] ?? "stroke"}`
        : "Nothing to take back");
      if (last) flushChange();
      return Boolean(last);
    }

    function clear() {
      liftPen();
      pointer = stroke = null;
      if (pad.isEmpty && !items.some((item) => item.kind !== "clear")) return;
      if (items[items.length - 1]?.kind !== "clear") items.push({ kind: "clear" });
      onStatus("Cleared");
      flushChange();
    }

    /** @returns {{width: number, height: number, data: Uint8ClampedArray, name: string}} RGBA */
    function pixels() {
      const { picture, strokes } = visible();
      if (picture) return picture.picture;
      const prepared = page.createElement("canvas");
      prepared.width = PREPARED_WIDTH;
      prepared.height = Math.max(1, Math.round(PREPARED_WIDTH * height()));
      const inked = prepared.getContext("2d", { willReadFrequently: true });
      inked.fillStyle = "white";
      inked.fillRect(0, 0, prepared.width, prepared.height);
      drawStrokes(inked, strokes, PREPARED_WIDTH, "black", "white");
      const { data } = inked.getImageData(0, 0, prepared.width, prepared.height);
      return { width: prepared.width, height: prepared.height, data, name: "drawing" };
    }

    const pad = {
      pixels, undo, clear, open, show, detach,
      get isEmpty() {
        const { picture, strokes } = visible();
        return !picture && !strokes.some((item) => item.kind === "ink");
      },
      get erasing() { return erasing; },
      set erasing(value) {
        liftPen();
        erasing = Boolean(value);
        onStatus(erasing ? "Eraser" : "Pen");
      },
    };

    const onColours = () => update(false);
    const colours = ["(prefers-color-scheme: dark)", "(forced-colors: active)"].map((query) => view.matchMedia(query));
    const listeners = [
      [canvas, { pointerdown: onPointerDown, pointermove: onPointerMove, pointerup: onPointerUp,
                 pointercancel: onPointerCancel, keydown: onKeyDown, keyup: onKeyUp, blur: onBlur }],
      [page, { dragover: onDragOver, drop: onDrop, paste: onPaste }],
      [view, { resize: refit }],  // zooming changes devicePixelRatio only
      ...colours.map((query) => [query, { change: onColours }]),
    ];
    /** Give the canvas the pixels of the screen; returns whether their number has changed. */
    function fit() {
      const ratio = view.devicePixelRatio || 1;
      const [width, tall] = [canvas.clientWidth, canvas.clientHeight].map((side) => Math.round(side * ratio));
      if (!width || !tall || (width === canvas.width && tall === canvas.height)) return false;
      [canvas.width, canvas.height] = [width, tall];
      return true;
    }

    function refit() {
      if (fit()) redraw();
    }

    const resizes = new view.ResizeObserver(refit);
    /** A window that moves to a screen of another density has the same size: no event of a size comes. */
    let density = null;

    function watchDensity() {
      density?.removeEventListener("change", watchDensity);
      density = view.matchMedia(`(resolution: ${view.devicePixelRatio || 1}dppx)`);
      density.addEventListener("change", watchDensity);
      refit();
    }

    function detach() {
      resizes.disconnect();
      density.removeEventListener("change", watchDensity);
      view.cancelAnimationFrame(frame);
      for (const [target, events] of listeners) {
        for (const [name, listener] of Object.entries(events)) target.removeEventListener(name, listener);
      }
    }

    canvas.style.touchAction = "none";  // a finger draws, and does not scroll the page
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "application");
    if (!canvas.hasAttribute("aria-label")) canvas.setAttribute("aria-label", "Drawing pad");
    canvas.setAttribute("aria-roledescription", "drawing pad");
    canvas.setAttribute("aria-description", HELP);
    for (const [target, events] of listeners) {
      for (const [name, listener] of Object.entries(events)) target.addEventListener(name, listener);
    }
    resizes.observe(canvas);
    watchDensity();
    return pad;
  }

  return { attach };
})();
