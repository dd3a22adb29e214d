"use strict";

/**
 * Prepares pictures in the browser as fastnn.prepare_image does in Python: the same rows, the same refusals.
 *
 *   const picture = await Pictures.readFile(file);            // a File or Blob
 *   const row = Pictures.prepareImage(picture);               // Uint8Array of 784, like MNIST's
 *   const row = Pictures.rowFor(model, picture);              // in the range and with the ink of the model's images
 *
 * A picture is { width, height, data, name }: `data` holds rows of pixels from 0 to 255, of 1 (grey) or 4 (RGBA)
 * numbers each; `name` begins the messages of errors and may be left out. ImageData of a canvas is a picture, too.
 * A model is { imageShape, pixels }: the height and width of its images (null for tables), and the values of background
 * and ink in them, as in its file.
 *
 * What a user can cause is thrown as Pictures.DataError, with Python's words in one line.
 *
 * The functions are those of fastnn/datasets/pictures, where the reasons are. Numbers have the precision that NumPy
 * gives them: values of Float32Array are rounded after every operation. In files, three things differ, as browsers
 * decode them: 16 bits of grey come as 8; semitransparent colours are rounded; a photo that is stored turned and is
 * reduced is turned first.
 *
 * @typedef {{width: number, height: number, data: Uint8Array|Uint8ClampedArray, name?: string}} Picture
 * @typedef {{width: number, height: number, data: Float32Array}} Grey pixels from 0 (black) to 255
 * @typedef {{width: number, height: number, data: Uint8Array}} Mask pixels 0 or 1
 * @typedef {{top: number, left: number, bottom: number, right: number}} Box `bottom` and `right` are exclusive
 */
const Pictures = (() => {
  class DataError extends Error {}

  // ---- files

  const MAX_PIXELS = 36e6;
  const MAX_JPEG_PIXELS = 52e6;
  const MAX_WEBP_PIXELS = 18e6;
  const MAX_SIDE = 2 ** 16;
  const LARGEST_SIDE = 1024;  // of the pictures in which digits are found, in pixels
  const STRIP_PIXELS = 2 ** 21;
  const FORMATS = "PNG, JPEG, BMP, GIF, WEBP";

  /** Throw DataError if a picture has no pixels or too many. */
  function checkSize(width, height, name, most = MAX_PIXELS) {
    const found = `${name}: found a picture of ${width} x ${height} pixels`;
    if (width < 1 || height < 1) throw new DataError(`${found}, expected at least 1 x 1`);
    if (width * height > most || Math.max(width, height) > MAX_SIDE) {
      throw new DataError(
        `${found}, expected at most ${most / 1e6} million pixels and ${MAX_SIDE} on each side; make it smaller`);
    }
  }

  /**
   * Decode a picture, turned as the camera says, with its longer side below 2048 by averaging blocks of pixels.
   *
   * Its size is read from its header before it is decoded: a few bytes can declare any size.
   *
   * @param {File|Blob} file
   * @param {string} name
   * @returns {Promise<Picture>} RGBA
   */
  async function readFile(file, name = file.name || "picture") {
    let bytes;
    try {
      bytes = new DataView(await file.arrayBuffer());
    } catch {
      throw new DataError(`${name}: the file cannot be read, expected a picture`);
    }
    const header = headerOf(bytes);
    if (!header) throw new DataError(`${name}: the file is not a picture, expected one of ${FORMATS}`);
    const damaged = () => new DataError(`${name}: the picture is damaged, expected an intact one`);
    if (!header.size) throw damaged();
    checkSize(...header.size, name, { JPEG: MAX_JPEG_PIXELS, WEBP: MAX_WEBP_PIXELS }[header.format]);
    let bitmap;
    try {
      const asStored = { imageOrientation: "from-image", colorSpaceConversion: "none" };
      bitmap = await createImageBitmap(new Blob([bytes]), asStored);
    } catch {
      throw damaged();
    }
    try {
      return { ...pixelsOf(bitmap), name };
    } finally {
      bitmap.close();
    }
  }

  /**
   * Return the format of a file and its declared size: null for other formats, without a size if it is cut short.
   * @param {DataView} bytes
   * @returns {?{format: string, size: ?[number, number]}}
   */
  function headerOf(bytes) {
    const start = new Uint8Array(bytes.buffer, 0, Math.min(16, bytes.byteLength));
    const text = (first, length) => String.fromCharCode(...start.subarray(first, first + length));
    const formats = [
      ["PNG", text(0, 8) === "\x89PNG\r\n\x1a\n", () => [bytes.getUint32(16), bytes.getUint32(20)]],
      ["GIF", /^GIF8[79]a/.test(text(0, 6)), () => [bytes.getUint16(6, true), bytes.getUint16(8, true)]],
      ["BMP", text(0, 2) === "BM", () => bmpSize(bytes)],
      ["WEBP", /^RIFF....WEBP/s.test(text(0, 12)), () => webpSize(bytes, text(12, 4))],
      ["JPEG", text(0, 3) === "\xff\xd8\xff", () => jpegSize(bytes)],
    ];
    const [format, , size] = formats.find(([, isFormat]) => isFormat) ?? [];
    if (!format) return null;
    try {
      return { format, size: size() };
    } catch {  // a read beyond the end of the file
      return { format, size: null };
    }
  }

  function bmpSize(bytes) {
    if (bytes.getUint32(14, true) === 12) return [bytes.getUint16(18, true), bytes.getUint16(20, true)];
    return [Math.abs(bytes.getInt32(18, true)), Math.abs(bytes.getInt32(22, true))];
  }

  function webpSize(bytes, chunk) {
    if (chunk === "VP8X") {
      const side = (at) => 1 + bytes.getUint8(at) + (bytes.getUint16(at + 1, true) << 8);
      return [side(24), side(27)];
    }
    if (chunk === "VP8L") {
      const packed = bytes.getUint32(21, true);
      return [1 + (packed & 0x3fff), 1 + (packed >>> 14 & 0x3fff)];
    }
    return [bytes.getUint16(26, true) & 0x3fff, bytes.getUint16(28, true) & 0x3fff];
  }

  /** The size is in the first marker SOF0 to SOF15; DHT, JPG and DAC have numbers of that range, too. */
  function jpegSize(bytes) {
    for (let at = 2; ;) {
      if (bytes.getUint8(at) !== 0xff) return null;
      const marker = bytes.getUint8(at + 1);
      if (marker === 0xff) at++;
      else if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
        return [bytes.getUint16(at + 7), bytes.getUint16(at + 5)];
      } else at += marker === 0x01 || (marker >= 0xd0 && marker <= 0xd8) ? 2 : 2 + bytes.getUint16(at + 2);
    }
  }

  /**
   * Return the pixels of a bitmap, reduced. They are read in strips: phones limit the size of a canvas.
   * @param {ImageBitmap} bitmap
   * @returns {Picture} RGBA
   */
  function pixelsOf(bitmap) {
    const { width, height } = bitmap;
    const canvas = document.createElement("canvas");
    return reduced(width, height, 4, (top, rows) => {
      [canvas.width, canvas.height] = [width, rows];
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(bitmap, 0, -top);
      return context.getImageData(0, 0, width, rows).data;
    });
  }

  /**
   * Return a picture with its longer side below 2 * LARGEST_SIDE, by averaging blocks of pixels as Pillow's `reduce`.
   * @param {number} width
   * @param {number} height
   * @param {number} channels 1 or 4
   * @param {function(number, number): ArrayLike<number>} read returns the pixels of some rows: (top, rows)
   * @returns {Picture}
   */
  function reduced(width, height, channels, read) {
    const factor = Math.max(1, Math.floor(Math.max(width, height) / LARGEST_SIDE));
    if (factor === 1) return { width, height, data: read(0, height) };
    const columns = Math.ceil(width / factor);
    const lines = Math.ceil(height / factor);
    const out = { width: columns, height: lines, data: new Uint8ClampedArray(columns * lines * channels) };
    const step = factor * Math.max(1, Math.floor(STRIP_PIXELS / (factor * width)));
    for (let top = 0; top < height; top += step) {
      const rows = Math.min(step, height - top), strip = read(top, rows);
      for (let row = 0; row < rows; row += factor) {
        const block = strip.subarray(row * width * channels, Math.min(row + factor, rows) * width * channels);
        const line = (top + row) / factor * columns * channels;
        averageBlocks(out.data.subarray(line, line + columns * channels), block, width, channels, factor);
      }
    }
    return out;
  }

  /**
   * Average blocks of `factor` columns and all rows of a strip, with opacity as weight of colours.
   * @param {Uint8ClampedArray} out (columns, channels)
   * @param {ArrayLike<number>} strip (rows, width, channels)
   */
  function averageBlocks(out, strip, width, channels, factor) {
    const line = width * channels, rows = strip.length / line, columns = out.length / channels;
    const sums = new Uint32Array(out.length);
    for (let row = 0, at = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const to = column * channels;
        for (const end = row * line + Math.min((column + 1) * factor, width) * channels; at < end; at += channels) {
          if (channels === 1) {
            sums[to] += strip[at];
            continue;
          }
          const opacity = strip[at + 3], isOpaque = opacity === 255;
          sums[to] += isOpaque ? strip[at] : times255th(strip[at], opacity);
          sums[to + 1] += isOpaque ? strip[at + 1] : times255th(strip[at + 1], opacity);
          sums[to + 2] += isOpaque ? strip[at + 2] : times255th(strip[at + 2], opacity);
          sums[to + 3] += opacity;
        }
      }
    }
    for (let column = 0; column < columns; column++) {
      const pixels = rows * (Math.min((column + 1) * factor, width) - column * factor), to = column * channels;
      // Pillow's fixed-point division, rounded to the nearest integer.
      const multiplier = Math.floor(Math.fround(2 ** 32 / (256 * pixels))), half = pixels >> 1;
      for (let i = to; i < to + channels; i++) out[i] = (sums[i] + half) * multiplier >>> 24;
      const opacity = channels === 4 ? out[to + 3] : 255;
      if (opacity > 0 && opacity < 255) {
        for (let i = to; i < to + 3; i++) out[i] = Math.min(255, Math.floor(255 * out[i] / opacity));
      }
    }
  }

  /** Return value * opacity / 255, rounded, as Pillow multiplies colours by their opacity. */
  function times255th(value, opacity) {
    const product = value * opacity + 128;
    return (product >> 8) + product >> 8;
  }

  // ---- numbers as NumPy has them

  const { abs, ceil, cos, floor, fround, max, min, sin, sqrt } = Math;

  /** Round to the nearest integer, halves to the even one. */
  function rint(value) {
    const rounded = Math.round(value);
    return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
  }

  const clip = (value, low, high) => min(max(value, low), high);

  /** Return the rounding of an array's numbers: that of float32 or none. */
  const roundingOf = (values) => (values instanceof Float32Array ? fround : (value) => value);

  /** Return the largest value; Math.max takes no arrays of millions. */
  function largest(values) {
    let most = -Infinity;
    for (let i = 0; i < values.length; i++) if (values[i] > most) most = values[i];
    return most;
  }

  function least(values) {
    let most = Infinity;
    for (let i = 0; i < values.length; i++) if (values[i] < most) most = values[i];
    return most;
  }

  /** Return the values for which the test of the index holds. */
  function chosen(values, test) {
    const kept = new values.constructor(values.length);
    let count = 0;
    for (let i = 0; i < values.length; i++) if (test(i)) kept[count++] = values[i];
    return kept.subarray(0, count);
  }

  /** Move the k-th smallest value to its place, smaller ones before it (quickselect); return it. */
  function select(values, k) {
    for (let low = 0, high = values.length - 1; low < high;) {
      const middle = values[(low + high) >> 1];
      let i = low, j = high;
      while (i <= j) {
        while (values[i] < middle) i++;
        while (values[j] > middle) j--;
        if (i <= j) {
          const value = values[i];
          values[i++] = values[j];
          values[j--] = value;
        }
      }
      if (k <= j) high = j;
      else if (k >= i) low = i;
      else break;
    }
    return values[k];
  }

  /** Return the k-th smallest value and the next one. */
  function neighbours(values, k) {
    const sorted = values.slice(), first = select(sorted, k);
    return [first, k + 1 < sorted.length ? least(sorted.subarray(k + 1)) : first];
  }

  function median(values) {
    const round = roundingOf(values), half = values.length >> 1;
    if (values.length % 2) return select(values.slice(), half);
    const [low, high] = neighbours(values, half - 1);
    return round(round(low + high) / 2);
  }

  /** Interpolate linearly between the sorted values. `round`: the precision of the result. */
  function percentile(values, percent, round = roundingOf(values)) {
    const place = (values.length - 1) * (percent / 100), before = min(floor(place), values.length - 1);
    const [low, high] = neighbours(values, before);
    const difference = roundingOf(values)(high - low), part = place - before;
    return part >= 0.5 ? round(high - round(difference * round(1 - part)))
      : round(low + round(difference * round(part)));
  }

  /** Add numbers in the order of NumPy, so that sums that should be equal are. At most 128. */
  function sumOf(values, round, first = 0, count = values.length) {
    let sum = 0, i = 0;
    if (count >= 8) {
      const parts = Array.from(values.slice(first, first + 8));
      for (i = 8; i < count - count % 8; i += 8) {
        for (let k = 0; k < 8; k++) parts[k] = round(parts[k] + values[first + i + k]);
      }
      for (let step = 1; step < 8; step *= 2) {
        for (let k = 0; k < 8; k += 2 * step) parts[k] = round(parts[k] + parts[k + step]);
      }
      sum = parts[0];
    }
    for (; i < count; i++) sum = round(sum + values[first + i]);
    return sum;
  }

  const exact = (value) => value;

  /**
   * Return eigenvalues and eigenvectors of a symmetric matrix, by Jacobi's rotations.
   * @param {number[][]} matrix
   * @returns {{values: number[], vectors: number[][]}} the vectors as columns, not sorted
   */
  function eigen(matrix) {
    const size = matrix.length, a = matrix.map((row) => row.slice());
    const vectors = a.map((_, i) => a.map((_, j) => (i === j ? 1 : 0)));
    for (let sweep = 0; sweep < 50; sweep++) {
      let isDiagonal = true;
      for (let p = 0; p < size; p++) {
        for (let q = p + 1; q < size; q++) {
          if (abs(a[p][q]) <= 1e-17 * sqrt(abs(a[p][p] * a[q][q])) || a[p][q] === 0) continue;
          isDiagonal = false;
          const theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
          const t = (theta < 0 ? -1 : 1) / (abs(theta) + sqrt(theta * theta + 1)), c = 1 / sqrt(t * t + 1), s = t * c;
          for (const rows of [a, vectors]) {
            for (const row of rows) [row[p], row[q]] = [c * row[p] - s * row[q], s * row[p] + c * row[q]];
          }
          for (let k = 0; k < size; k++) [a[p][k], a[q][k]] = [c * a[p][k] - s * a[q][k], s * a[p][k] + c * a[q][k]];
        }
      }
      if (isDiagonal) break;
    }
    return { values: a.map((row, i) => row[i]), vectors };
  }

  // ---- masks and grids

  const grid = (like, data) => ({ width: like.width, height: like.height, data });

  /** Return the mask of the pixels whose value passes the test. */
  function maskOf(pixels, test) {
    const { data } = pixels, mask = new Uint8Array(data.length);
    for (let i = 0; i < data.length; i++) if (test(data[i])) mask[i] = 1;
    return grid(pixels, mask);
  }

  /** Return the mask of the pixels above a value. */
  function above(grey, value) {
    const { data } = grey, mask = new Uint8Array(data.length), limit = fround(value);  // float32, as NumPy compares
    for (let i = 0; i < data.length; i++) mask[i] = data[i] > limit ? 1 : 0;
    return grid(grey, mask);
  }

  /** Return the number of pixels of a mask. */
  function countOf({ data }) {
    let count = 0;
    for (let i = 0; i < data.length; i++) count += data[i];
    return count;
  }

  function transposed({ width, height, data }) {
    const out = { width: height, height: width, data: new data.constructor(data.length) };
    for (let y = 0, i = 0; y < height; y++) for (let x = 0; x < width; x++) out.data[x * height + y] = data[i++];
    return out;
  }

  /** Return the part of a picture inside a box. */
  function cropped({ width, data }, { top, left, bottom, right }) {
    const out = { width: right - left, height: bottom - top, data: null };
    out.data = new data.constructor(out.width * out.height);
    for (let y = top; y < bottom; y++) {
      out.data.set(data.subarray(y * width + left, y * width + right), (y - top) * out.width);
    }
    return out;
  }

  /** Return the picture with a border of zeros. */
  function padded({ width, height, data }, border) {
    const out = { width: width + 2 * border, height: height + 2 * border, data: null };
    out.data = new data.constructor(out.width * out.height);
    for (let y = 0; y < height; y++) {
      out.data.set(data.subarray(y * width, (y + 1) * width), (y + border) * out.width + border);
    }
    return out;
  }

  /** Return the box from the first to the last 1; null for an empty mask. */
  function boxOf({ width, height, data }) {
    let top = height, left = width, bottom = 0, right = 0;
    for (let y = 0, i = 0; y < height; y++) {
      for (let x = 0; x < width; x++, i++) {
        if (!data[i]) continue;
        if (y < top) top = y;
        bottom = y + 1;
        if (x < left) left = x;
        if (x >= right) right = x + 1;
      }
    }
    return bottom ? { top, left, bottom, right } : null;
  }

  /**
   * Return the largest value (or the smallest) in a window round each pixel, clipped at the border.
   * @param {Grey|Mask} pixels
   * @param {number} before the pixels of the window before its own, in each direction
   * @param {number} after the pixels after its own
   * @param {boolean} isLargest
   */
  function windowed(pixels, before, after, isLargest) {
    const { width, height } = pixels;
    const out = grid(pixels, pixels.data.slice());
    const line = new pixels.data.constructor(max(width, height)), queue = new Int32Array(line.length);
    const slide = (start, step, length) => {
      for (let i = 0; i < length; i++) line[i] = out.data[start + i * step];
      // The queue has the places of values that may still be the largest, in falling order.
      let first = 0, last = 0;
      for (let i = 0, next = 0; i < length; i++) {
        for (const end = min(length, i + after + 1); next < end; next++) {
          const value = line[next];
          while (last > first && (isLargest ? line[queue[last - 1]] <= value : line[queue[last - 1]] >= value)) last--;
          queue[last++] = next;
        }
        while (queue[first] < i - before) first++;
        out.data[start + i * step] = line[queue[first]];
      }
    };
    for (let x = 0; x < width; x++) slide(x, width, height);
    for (let y = 0; y < height; y++) slide(y * width, 1, width);
    return out;
  }

  /** Grey dilation by a square; for an even side, SciPy's window has one pixel more after than before. */
  const dilated = (pixels, side) => windowed(pixels, side - 1 - (side >> 1), side >> 1, true);

  /** Grey erosion by a square. */
  const eroded = (pixels, side) => windowed(pixels, side >> 1, side - 1 - (side >> 1), false);

  /** Return the mask of the pixels with a 1 in a window round them; as `windowed`, which takes longer. */
  function dilatedMask({ width, height, data }, before, after = before) {
    const wide = new Uint8Array(data.length), out = new Uint8Array(data.length);
    for (let y = 0, start = 0; y < height; y++, start += width) {
      let end = 0;  // the columns before it are set
      for (let x = 0; x < width; x++) {
        if (!data[start + x]) continue;
        const first = max(x - after, end);
        end = min(x + before + 1, width);
        if (end > first) wide.fill(1, start + first, start + end);
      }
    }
    const ends = new Int32Array(width);
    for (let y = 0, i = 0; y < height; y++) {
      for (let x = 0; x < width; x++, i++) {
        if (!wide[i]) continue;
        const first = max(y - after, ends[x]);
        ends[x] = min(y + before + 1, height);
        for (let row = first, to = first * width + x; row < ends[x]; row++, to += width) out[to] = 1;
      }
    }
    return { width, height, data: out };
  }

  /** Binary erosion by a square; what is outside of the picture is 0. */
  function erodedMask(mask, side) {
    const border = side >> 1, complement = maskOf(padded(mask, border), (value) => !value);
    const outside = dilatedMask(complement, border, side - 1 - border);
    const box = { top: border, left: border, bottom: border + mask.height, right: border + mask.width };
    return maskOf(cropped(outside, box), (value) => !value);
  }

  /** Binary erosion by the 4 neighbours; what is outside of the picture is 0. */
  function erodedByNeighbours({ width, height, data }) {
    const out = new Uint8Array(data.length);
    for (let y = 1, i; y + 1 < height; y++) {
      for (let x = 1; x + 1 < width; x++) {
        i = y * width + x;
        out[i] = data[i] & data[i - 1] & data[i + 1] & data[i - width] & data[i + width];
      }
    }
    return { width, height, data: out };
  }

  /**
   * Number the connected components in the order of their first pixels, from 1.
   * @param {Mask} mask
   * @param {boolean} byCorners whether pixels that touch at a corner are connected
   * @returns {{width: number, height: number, data: Int32Array, count: number}}
   */
  function labelled({ width, height, data }, byCorners) {
    const labels = new Int32Array(data.length), stack = new Int32Array(data.length);
    let count = 0;
    for (let start = 0; start < data.length; start++) {
      if (!data[start] || labels[start]) continue;
      let size = 0;
      labels[start] = ++count;
      stack[size++] = start;
      while (size) {
        const at = stack[--size], x = at % width, y = (at - x) / width;
        for (let dy = y > 0 ? -1 : 0; dy <= 1 && y + dy < height; dy++) {
          for (let dx = x > 0 ? -1 : 0; dx <= 1 && x + dx < width; dx++) {
            const to = at + dy * width + dx;
            if ((byCorners || !dx || !dy) && data[to] && !labels[to]) {
              labels[to] = count;
              stack[size++] = to;
            }
          }
        }
      }
    }
    return { width, height, data: labels, count };
  }

  /** Fill the holes: all that is not connected with the border by 4 neighbours. */
  function filled(mask) {
    const around = padded(mask, 1);
    const outside = labelled(maskOf(around, (value) => !value), false);
    const border = outside.data[0];
    const box = { top: 1, left: 1, bottom: mask.height + 1, right: mask.width + 1 };
    return maskOf(cropped(outside, box), (label) => label !== border);
  }

  /**
   * Return the index of the nearest zero of each pixel; of several at equal distance, the one that SciPy takes.
   *
   * C. R. Maurer, R. Qi, V. Raghavan: A linear time algorithm for computing exact Euclidean distance transforms. IEEE
   * Transactions on Pattern Analysis and Machine Intelligence 25 (2003).
   *
   * @param {Mask} mask
   * @returns {Int32Array} -1 everywhere if there is no zero
   */
  function nearestZeros({ width, height, data }) {
    const rows = new Int32Array(data.length).fill(-1);  // of the nearest zero in the same column
    for (let x = 0; x < width; x++) {
      let zero = -1;
      for (let y = 0, i = x; y < height; y++, i += width) {
        if (!data[i]) zero = y;
        rows[i] = zero;
      }
      zero = -1;
      for (let y = height - 1, i = x + y * width; y >= 0; y--, i -= width) {
        if (!data[i]) zero = y;
        if (zero >= 0 && (rows[i] < 0 || zero - y < y - rows[i])) rows[i] = zero;
      }
    }
    const nearest = new Int32Array(data.length).fill(-1);
    const kept = new Int32Array(width), squares = new Float64Array(width);
    for (let y = 0; y < height; y++) {
      const line = y * width;
      let last = -1;
      for (let x = 0; x < width; x++) {
        if (rows[line + x] < 0) continue;
        const w = squares[x] = (rows[line + x] - y) ** 2;
        for (; last >= 1; last--) {
          const v = squares[kept[last]], u = squares[kept[last - 1]];
          const a = kept[last] - kept[last - 1], b = x - kept[last], c = a + b;
          if (c * v - b * u - a * w - a * b * c <= 0) break;
        }
        kept[++last] = x;
      }
      if (last < 0) continue;
      for (let x = 0, at = 0; x < width; x++) {
        let distance = (kept[at] - x) ** 2 + squares[kept[at]];
        for (; at < last; at++) {
          const next = (kept[at + 1] - x) ** 2 + squares[kept[at + 1]];
          if (distance <= next) break;
          distance = next;
        }
        nearest[line + x] = rows[line + kept[at]] * width + kept[at];
      }
    }
    return nearest;
  }

  /** Return the distance of each pixel from the nearest zero. */
  function distances(mask, nearest = nearestZeros(mask)) {
    const { width, height } = mask, out = new Float64Array(nearest.length);
    for (let y = 0, i = 0; y < height; y++) {
      for (let x = 0; x < width; x++, i++) {
        const dx = nearest[i] % width - x, dy = (nearest[i] / width | 0) - y;
        out[i] = sqrt(dx * dx + dy * dy);
      }
    }
    return out;
  }

  // ---- resize.py, with Pillow's filters

  const BOX = { support: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) };
  const sinc = (x) => (x === 0 ? 1 : sin(x * Math.PI) / (x * Math.PI));
  const LANCZOS = { support: 3, weight: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) };
  const FIXED_POINT = 2 ** 22;

  /** Return the weights of the old pixels of each new pixel of a line. */
  function weightsOf(length, newLength, filter) {
    const scale = length / newLength, stretch = max(scale, 1), support = filter.support * stretch;
    return Array.from({ length: newLength }, (_, at) => {
      const centre = (at + 0.5) * scale;
      const first = max(0, Math.trunc(centre - support + 0.5)), end = min(length, Math.trunc(centre + support + 0.5));
      const weights = new Float64Array(end - first);
      let sum = 0;
      for (let i = 0; i < weights.length; i++) {
        weights[i] = filter.weight((i + first - centre + 0.5) * (1 / stretch));
        sum += weights[i];
      }
      if (sum !== 0) for (let i = 0; i < weights.length; i++) weights[i] /= sum;
      return { first, weights };
    });
  }

  /**
   * Resize the rows or columns of pixels of one channel.
   * @param {Grey|Picture} pixels in floats, or in bytes with Pillow's fixed-point weights
   */
  function resampled(pixels, width, height, filter) {
    const isBytes = !(pixels.data instanceof Float32Array);
    const linesOf = (length, newLength) => weightsOf(length, newLength, filter).map(({ first, weights }) =>
      ({ first, weights: isBytes ? weights.map((weight) => Math.round(weight * FIXED_POINT)) : weights }));
    const rounded = isBytes ? (sum) => clip((sum + FIXED_POINT / 2) / FIXED_POINT | 0, 0, 255) : fround;
    let out = pixels;
    if (width !== out.width) {
      const lines = linesOf(out.width, width), wide = out;
      out = { width, height: wide.height, data: new pixels.data.constructor(width * wide.height) };
      for (let y = 0, to = 0; y < out.height; y++) {
        for (let x = 0; x < width; x++) {
          const { first, weights } = lines[x];
          let sum = 0;
          for (let i = 0, from = y * wide.width + first; i < weights.length; i++) sum += wide.data[from++] * weights[i];
          out.data[to++] = rounded(sum);
        }
      }
    }
    if (height !== out.height) {
      const lines = linesOf(out.height, height), tall = out;
      out = { width, height, data: new pixels.data.constructor(width * height) };
      for (let y = 0, to = 0; y < height; y++) {
        const { first, weights } = lines[y];
        for (let x = 0; x < width; x++) {
          let sum = 0;
          for (let i = 0, from = first * width + x; i < weights.length; i++, from += width) {
            sum += tall.data[from] * weights[i];
          }
          out.data[to++] = rounded(sum);
        }
      }
    }
    return out;
  }

  /** Resize a grey picture: shrink it by averaging pixels, or enlarge it by interpolation. */
  function resized(pixels, width, height) {
    const isLarger = max(width, height) > max(pixels.width, pixels.height);
    const out = resampled(pixels, width, height, isLarger ? LANCZOS : BOX);
    return grid(out, out.data.map((value) => clip(value, 0, 255)));
  }

  /** Shrink the picture so that its longer side has at most `side` pixels. */
  function shrunk(pixels, side) {
    const scale = side / max(pixels.width, pixels.height);
    if (scale >= 1) return pixels;
    return resized(pixels, max(1, rint(pixels.width * scale)), max(1, rint(pixels.height * scale)));
  }

  // ---- grey.py

  const LUMA = [0.299, 0.587, 0.114].map(fround);
  const COLOUR_GAIN = 3;
  const SAMPLE_SIDE = 128;

  /** @param {Picture} picture @returns {Grey} */
  function greyOf(picture) {
    const { width, height, data } = picture, name = nameOf(picture);
    checkSize(width, height, name);
    const channels = data.length / (width * height);
    if (channels !== 1 && channels !== 4) {
      throw new RangeError(`${data.length} numbers for ${width} x ${height} pixels, expected 1 or 4 for each pixel`);
    }
    const small = reduced(width, height, channels,
      (top, rows) => data.subarray(top * width * channels, (top + rows) * width * channels));
    if (channels === 1) return grid(small, Float32Array.from(small.data));
    for (let i = 3; i < small.data.length; i += 4) if (small.data[i] < 255) return greyOfTransparent(small);
    return greyOfColours(small);
  }

  const nameOf = (picture) => picture.name ?? "image";

  /** Put the picture on a ground that differs from what is opaque. */
  function greyOfTransparent(picture) {
    const { data } = picture, count = data.length / 4;
    const opacity = new Float32Array(count);
    for (let i = 0; i < count; i++) opacity[i] = data[4 * i + 3] / 255;
    // Colours are compared if every pixel has one.
    const grey = greyOfColours(picture, { isRounded: false, isCompared: opacity.every((part) => part > 0) }).data;
    let weight = 0, sum = 0, opaque = 0;
    for (let i = 0; i < count; i++) {
      weight += opacity[i];
      sum += fround(grey[i] * opacity[i]);
      opaque += opacity[i] > 0.5 ? 1 : 0;
    }
    let ground = (weight ? sum / weight : 0) > 127.5 ? 0 : 255;
    if (opaque / count > 0.6) ground = median(chosen(grey, (i) => opacity[i] > 0.5));
    for (let i = 0; i < count; i++) grey[i] = fround(grey[i] * opacity[i]) + fround(ground * fround(1 - opacity[i]));
    return grid(picture, grey);
  }

  /** Return the product of a pixel's colour and a direction; multiplications are fused with additions, as in BLAS. */
  const projected = (data, at, [red, green, blue]) =>
    fround(data[at + 2] * blue + fround(data[at + 1] * green + fround(data[at] * red)));

  /**
   * Convert colours to their luma or, if ink and ground are about equally bright, to what separates them best.
   * @param {Picture} picture RGBA
   * @param {{isRounded?: boolean, isCompared?: boolean}} options whether lumas and means of colours are rounded, as
   *   those of pictures without transparency are, and whether colours are compared
   * @returns {Grey}
   */
  function greyOfColours(picture, { isRounded = true, isCompared = true } = {}) {
    const { width, height, data } = picture, grey = new Float32Array(width * height);
    let isGrey = true;
    for (let i = 0, at = 0; i < grey.length; i++, at += 4) {
      isGrey &&= data[at] === data[at + 1] && data[at] === data[at + 2];
      grey[i] = isRounded ? data[at] * 19595 + data[at + 1] * 38470 + data[at + 2] * 7471 + 0x8000 >> 16
        : projected(data, at, LUMA);
    }
    const direction = isGrey || !isCompared ? null : inkDirection(samplesOf(picture, isRounded));
    if (direction) {
      for (let i = 0, at = 0; i < grey.length; i++, at += 4) grey[i] = projected(data, at, direction);
      const low = least(grey), gain = fround(255 / max(largest(grey) - low, 1));
      for (let i = 0; i < grey.length; i++) grey[i] = fround(grey[i] - low) * gain;
    }
    return grid(picture, grey);
  }

  /** Return the red, green and blue of a picture of at most 128 pixels on its longer side. */
  function samplesOf({ width, height, data }, isRounded) {
    const scale = min(1, SAMPLE_SIDE / max(width, height));
    const size = [width, height].map((side) => max(1, rint(scale * side)));
    return [0, 1, 2].map((channel) => {
      const band = new (isRounded ? Uint8Array : Float32Array)(width * height);
      for (let i = 0, at = channel; i < band.length; i++, at += 4) band[i] = data[at];
      return Float32Array.from(resampled({ width, height, data: band }, ...size, BOX).data);
    });
  }

  /**
   * Return the direction of colour in which ink differs from its ground; null if the luma shows it well enough.
   * @param {Float32Array[]} bands red, green and blue
   */
  function inkDirection(bands) {
    const differences = bands.map((band) => {
      const ground = median(band);
      return band.map((value) => value - ground);
    });
    const [reds, greens, blues] = differences;
    const distance = reds.map((red, i) =>
      sqrt(fround(fround(fround(red * red) + fround(greens[i] * greens[i])) + fround(blues[i] * blues[i]))));
    const limit = fround(max(24, 0.5 * percentile(distance, 99.5)));
    const far = differences.map((band) => chosen(band, (i) => distance[i] > limit));
    if (!far[0].length) return null;
    const product = (first, second) => first.reduce((sum, value, i) => sum + value * second[i], 0);
    const products = far.map((first) => far.map((second) => product(first, second)));
    const { values, vectors } = eigen(products), main = values.indexOf(max(...values));
    let direction = vectors.map((row) => fround(row[main]));
    const strongest = direction.reduce((best, part) => (abs(part) > abs(best) ? part : best));
    if (strongest < 0) direction = direction.map((part) => -part);
    const contrast = (along) => median(Float32Array.from(far[0], (_, i) =>
      abs(projected([far[0][i], far[1][i], far[2][i]], 0, along))));
    return contrast(direction) > COLOUR_GAIN * max(contrast(LUMA), 1) ? direction : null;
  }

  // ---- background.py

  const MIN_CONTRAST = 16;
  const FIT_SIDE = 128;
  const STROKE_FRACTION = 0.22;

  /** Return the picture without its background: the median of the border, or a curved surface. */
  function smoothContrast(grey) {
    const { width, height, data } = grey, shorter = min(width, height);
    const margin = max(1, rint(0.04 * shorter));
    const border = chosen(data, (i) => {
      const y = floor(i / width), x = i - y * width;
      return x < margin || y < margin || x >= width - margin || y >= height - margin;
    });
    const level = median(border);
    const isEven = percentile(border, 95, exact) - percentile(border, 5, exact) < MIN_CONTRAST;
    const background = isEven || shorter < 56 ? null : fittedSurface(grey, level);
    const contrast = new Float32Array(data.length);
    for (let i = 0; i < data.length; i++) contrast[i] = data[i] - (background ? background[i] : level);
    return grid(grey, contrast);
  }

  /** Return how much a picture differs from the background round each place, and this background. */
  function localContrast(grey, isDark) {
    const shorter = min(grey.width, grey.height), side = max(3, rint(STROKE_FRACTION * shorter));
    const smooth = shorter > 56 ? blurred(grey) : grey;
    const background = isDark ? eroded(dilated(smooth, side), side) : dilated(eroded(smooth, side), side);
    const contrast = grey.data.map((value, i) => {
      const level = background.data[i];
      return isDark ? fround(level - value) * fround(255 / fround(level + 30))
        : fround(value - level) * fround(255 / fround(level + 60));
    });
    const middle = median(contrast);
    return { contrast: grid(grey, contrast.map((value) => value - middle)), background };
  }

  /** Gaussian filter of standard deviation 1; the border is repeated outside. */
  function blurred({ width, height, data }) {
    const curve = Array.from({ length: 9 }, (_, i) => Math.exp(-0.5 * (i - 4) ** 2)), sum = sumOf(curve, exact);
    const weights = curve.map((weight) => weight / sum);
    const out = data.slice(), line = new Float64Array(max(width, height) + 8);
    const along = (start, step, length) => {
      for (let i = -4; i < length + 4; i++) line[i + 4] = out[start + clip(i, 0, length - 1) * step];
      for (let i = 0; i < length; i++) {
        let value = line[i + 4] * weights[4];
        for (let k = 0; k < 4; k++) value += (line[i + k] + line[i + 8 - k]) * weights[k];
        out[start + i * step] = value;
      }
    };
    for (let x = 0; x < width; x++) along(x, width, height);
    for (let y = 0; y < height; y++) along(y * width, 1, width);
    return { width, height, data: out };
  }

  /** Fit a quadratic surface to the pixels that are not ink. `level` is the median of the border. */
  function fittedSurface({ width, height, data }, level) {
    const scale = min(1, FIT_SIDE / max(width, height));
    const small = resized({ width, height, data }, max(1, rint(width * scale)), max(1, rint(height * scale)));
    const values = Float64Array.from(small.data), [ys, xs] = [axis(small.height), axis(small.width)];
    const termsAt = (i) => {
      const x = xs[i % small.width], y = ys[floor(i / small.width)];
      return [1, x, y, x * x, x * y, y * y];
    };
    const terms = Array.from(values, (_, i) => termsAt(i));
    const distance = values.map((value) => abs(value - level));
    const limit = max(otsuThreshold(distance), MIN_CONTRAST);
    let isBackground = distance.map((value) => (value <= limit ? 1 : 0)), coefficients;
    for (let round = 0; round < 8; round++) {
      coefficients = fitted(terms, values, isBackground);
      const surface = (row) => row.reduce((sum, term, k) => sum + term * coefficients[k], 0);
      const residual = values.map((value, i) => value - surface(terms[i]));
      const most = 3 * robustDeviation(chosen(residual, (i) => isBackground[i])) + 1;
      const before = isBackground;
      isBackground = residual.map((value) => (abs(value) <= most ? 1 : 0));
      if (isBackground.every((value, i) => value === before[i])) break;
    }
    const [one, x1, y1, xx, xy, yy] = coefficients.map(fround);
    const out = new Float32Array(data.length);
    const across = axis(width).map((x) => x * fround(x1 + fround(x * xx))), columns = axis(width);
    axis(height).forEach((y, row) => {
      const down = fround(one + fround(y * fround(y1 + fround(y * yy)))), mixed = fround(xy * y);
      for (let x = 0, i = row * width; x < width; x++, i++) {
        out[i] = fround(down + across[x]) + fround(mixed * columns[x]);
      }
    });
    return out;
  }

  /** Return places from -1 to 1. */
  function axis(length) {
    const places = Float32Array.from({ length }, (_, i) => i * (2 / (length - 1 || 1)) - 1);
    if (length > 1) places[length - 1] = 1;
    return places;
  }

  /** Return the least-squares coefficients of the terms of the chosen pixels; of several solutions, the shortest. */
  function fitted(terms, values, isChosen) {
    const size = terms[0].length, products = Array.from({ length: size }, () => new Array(size).fill(0));
    const right = new Array(size).fill(0);
    terms.forEach((row, i) => {
      if (!isChosen[i]) return;
      for (let p = 0; p < size; p++) {
        right[p] += row[p] * values[i];
        for (let q = 0; q < size; q++) products[p][q] += row[p] * row[q];
      }
    });
    const { values: strengths, vectors } = eigen(products);
    const limit = size * Number.EPSILON * max(...strengths), coefficients = new Array(size).fill(0);
    strengths.forEach((strength, k) => {
      if (strength <= limit) return;
      const part = vectors.reduce((sum, row, i) => sum + row[k] * right[i], 0) / strength;
      for (let i = 0; i < size; i++) coefficients[i] += part * vectors[i][k];
    });
    return coefficients;
  }

  /** Return Otsu's threshold, which splits the values into two groups with the largest variance between them. */
  function otsuThreshold(values) {
    const BINS = 256, round = roundingOf(values);
    let low = least(values), high = largest(values);
    if (low === high) [low, high] = [round(low - 0.5), round(high + 0.5)];
    const range = round(high - low), step = round(range / BINS);
    const edges = Array.from({ length: BINS + 1 }, (_, i) => (i === BINS ? high : round(round(i * step) + low)));
    const counts = new Float64Array(BINS);
    for (let i = 0; i < values.length; i++) {
      const value = values[i];
      let bin = min(Math.trunc((value - low) / range * BINS), BINS - 1);  // at most one off; the edges decide
      if (value < edges[bin]) bin--;
      if (value >= edges[bin + 1] && bin !== BINS - 1) bin++;
      counts[bin]++;
    }
    const sums = new Float64Array(BINS);
    let sum = 0;
    for (let bin = 0; bin < BINS; bin++) {
      sum += counts[bin] * round(round(edges[bin] + edges[bin + 1]) / 2);
      sums[bin] = sum;
    }
    let below = 0, best = 0, most = -1;
    for (let bin = 0; bin < BINS; bin++) {
      below += counts[bin];
      const rest = values.length - below;
      const variance = below * rest * (sums[bin] / below - (sum - sums[bin]) / rest) ** 2 || 0;
      if (variance > most) [most, best] = [variance, bin];
    }
    return edges[1 + best];
  }

  /** Estimate the standard deviation from the median absolute deviation, which ignores outliers. */
  function robustDeviation(values) {
    if (!values.length) return 0;
    const middle = median(values);
    return 1.4826 * median(values.map((value) => abs(value - middle)));
  }

  // ---- lines.py

  const LARGEST_ANGLE = 8;
  const THICKNESS = 0.045;
  const COVERAGE = 0.75;
  const END = 0.06;
  const MAX_DIRECTIONS = 3;
  const MAX_POINTS = 8000;

  /** Return a copy of the mask without straight lines that run from side to side. */
  function withoutLines(mask) {
    const { width, height, data } = mask, rest = grid(mask, data.slice());
    const removeLines = (turned) => {
      for (let times = 0; times < MAX_DIRECTIONS && removeParallelLines(turned); times++);
      return turned;
    };
    removeLines(rest);
    let rows = 0;  // with ink; the transpose has lines only if there are many
    for (let y = 0; y < height; y++) rows += rest.data.subarray(y * width, (y + 1) * width).includes(1) ? 1 : 0;
    return rows < COVERAGE * height ? rest : transposed(removeLines(transposed(rest)));
  }

  /** Remove the nearly level lines of the most frequent angle, in place; return whether there were any. */
  function removeParallelLines({ width, height, data }) {
    if (min(width, height) < 56) return false;
    const inked = new Uint8Array(width);
    for (let y = 0, i = 0; y < height; y++) for (let x = 0; x < width; x++) inked[x] |= data[i++];
    if (countOf({ data: inked }) / width < COVERAGE) return false;
    const angle = lineAngle({ width, height, data });
    if (angle === null) return false;
    const shift = Int32Array.from({ length: width }, (_, x) => rint(x * Math.tan(angle * (Math.PI / 180))));
    const lowest = least(shift), tall = height + largest(shift) - lowest;
    const straight = { width, height: tall, data: new Uint8Array(width * tall) };
    for (let x = 0; x < width; x++) {
      shift[x] -= lowest;
      for (let y = 0; y < height; y++) straight.data[(y + shift[x]) * width + x] = data[y * width + x];
    }
    const isInside = (y, x) => y >= shift[x] && y < shift[x] + height;
    const isThick = (y, x) => {  // tolerates lines that bend by a pixel
      const i = y * width + x;
      return straight.data[i] || (y > 0 && straight.data[i - width]) || (y + 1 < tall && straight.data[i + width]);
    };
    const end = max(2, rint(END * width));
    const isLine = Uint8Array.from({ length: tall }, (_, y) => {
      let length = 0, ink = 0, first = -1, last = -1;
      for (let x = 0; x < width; x++) {
        if (isThick(y, x)) ink++;
        if (!isInside(y, x)) continue;
        length++;
        if (first < 0) first = x;
        last = x;
      }
      if (ink < COVERAGE * max(length, 1) || length < 0.5 * width) return 0;
      let startsAt = false, endsAt = false;
      for (let k = 0; k < end; k++) {
        startsAt ||= isThick(y, min(first + k, width - 1));
        endsAt ||= isThick(y, max(last - k, 0));
      }
      return startsAt && endsAt ? 1 : 0;
    });
    let found = false;
    for (const [first, last] of runsOf(isLine)) {
      if (last - first + 1 > max(6, THICKNESS * height)) continue;
      eraseLine(straight, first, last);
      found = true;
    }
    if (!found) return false;
    for (let x = 0; x < width; x++) {
      for (let y = 0; y < height; y++) data[y * width + x] = straight.data[(y + shift[x]) * width + x];
    }
    return true;
  }

  /** Return the angle in degrees at which most ink lies in few lines; null if no line is long enough. */
  function lineAngle({ width, data }) {
    const total = countOf({ data }), step = ceil(total / MAX_POINTS), xs = [], ys = [];
    for (let i = 0, count = 0; i < data.length; i++) {
      if (!data[i] || count++ % step) continue;
      xs.push(i % width);
      ys.push(floor(i / width));
    }
    const rows = new Int32Array(xs.length);
    let best = -1, bestAngle = 0, longest = 0;
    for (let k = 0; k <= 80; k++) {
      const angle = k === 80 ? LARGEST_ANGLE : k * (2 * LARGEST_ANGLE / 80) - LARGEST_ANGLE;
      const slope = Math.tan(angle * (Math.PI / 180));
      for (let i = 0; i < rows.length; i++) rows[i] = rint(ys[i] + xs[i] * slope);
      const lowest = least(rows), counts = new Float64Array(largest(rows) - lowest + 1);
      for (let i = 0; i < rows.length; i++) counts[rows[i] - lowest]++;
      let score = 0, most = 0;
      for (let row = 1; row < counts.length; row++) {
        const pair = counts[row] + counts[row - 1];
        score += pair * pair;
        most = max(most, pair);
      }
      if (score > best) [best, bestAngle, longest] = [score, angle, most];
    }
    return longest * step >= 0.4 * width ? bestAngle : null;
  }

  /** Return the first and last index of each run of nonzero flags. */
  function runsOf(flags) {
    const runs = [];
    for (let i = 0; i < flags.length; i++) {
      if (!flags[i]) continue;
      if (i && flags[i - 1]) runs[runs.length - 1][1] = i;
      else runs.push([i, i]);
    }
    return runs;
  }

  /** Erase the rows `first` to `last`, except where a stroke continues above and below. */
  function eraseLine({ width, height, data }, first, last) {
    const coverage = (row) => countOf({ data: data.subarray(row * width, (row + 1) * width) }) / width;
    const rows = [];
    for (let row = first; row <= last; row++) if (coverage(row) > 0.1) rows.push(row);
    if (rows.length) [first, last] = [rows[0], rows[rows.length - 1]];
    for (let times = 0; times < 3; times++) {  // the smooth edges of the line
      if (first > 0 && coverage(first - 1) > 0.35) first--;
      if (last + 1 < height && coverage(last + 1) > 0.35) last++;
    }
    const reach = last - first + 2;
    const near = (top, bottom) => {  // columns with ink in these rows, and their neighbours
      const flags = new Uint8Array(width);
      for (let row = max(top, 0); row < min(bottom, height); row++) {
        for (let x = 0; x < width; x++) flags[x] |= data[row * width + x];
      }
      return dilatedMask({ width, height: 1, data: flags }, reach).data;
    };
    const before = near(first - 3, max(first - 1, 0)), after = near(last + 2, last + 4);
    for (let row = max(first - 1, 0); row < min(last + 2, height); row++) {
      for (let x = 0; x < width; x++) data[row * width + x] &= before[x] & after[x];
    }
  }

  // ---- marks.py

  const SPECK_FRACTION = 0.02;
  const SIMILAR = 0.5;
  const GAP = 0.15;
  const GAP_BESIDE = 0.1;
  const LEAST_MASS = 0.08;
  const LEAST_SIZE = 0.08;
  const LEAST_SUPPORT = 0.85;
  const LINE_RATIO = 0.09;

  /** A connected component of ink. */
  class Component {
    /**
     * @param {number[]} numbers its labels
     * @param {Box} box
     * @param {number} mass the sum of its ink
     * @param {number} strength the mean of its ink
     * @param {boolean} touchesBorder
     */
    constructor(numbers, { top, left, bottom, right }, mass, strength, touchesBorder) {
      Object.assign(this, { numbers, top, left, bottom, right, mass, strength, touchesBorder });
    }

    get height() { return this.bottom - this.top; }

    get width() { return this.right - this.left; }

    get size() { return max(this.height, this.width); }

    /** Large for much ink that is strong. */
    get score() { return this.mass * (this.strength / 255) ** 2; }

    encloses(other) {
      return this.top <= other.top && this.left <= other.left
        && this.bottom >= other.bottom && this.right >= other.right;
    }

    /** Return the component in a picture of another size. */
    scaled(factor) {
      const box = {};
      for (const side of ["top", "left", "bottom", "right"]) box[side] = rint(factor * this[side]);
      return new Component(this.numbers, box, this.mass, this.strength, this.touchesBorder);
    }

    merged(other) {
      const mass = this.mass + other.mass;
      const strength = (this.mass * this.strength + other.mass * other.strength) / max(mass, 1e-9);
      const box = { top: min(this.top, other.top), left: min(this.left, other.left),
                    bottom: max(this.bottom, other.bottom), right: max(this.right, other.right) };
      return new Component([...this.numbers, ...other.numbers], box, mass, strength,
        this.touchesBorder || other.touchesBorder);
    }
  }

  const sumOfMasses = (components) => components.reduce((sum, { mass }) => sum + mass, 0);

  /** Return the first of those with the largest value. */
  const maxBy = (items, value) => items.reduce((best, item) => (value(item) > value(best) ? item : best));

  /** Return the mask of some labels. */
  const isIn = (labels, numbers) => {
    const wanted = new Set(numbers);
    return maskOf(labels, (label) => wanted.has(label));
  };

  /**
   * Return the marks that may be digits.
   * @param {Mask} mask
   * @param {Grey} ink
   * @param {?function(Object): Float64Array} support the part of each mark's outline that is an edge; null for 1
   * @returns {{labels: Object, digits: Component[], atBorder: Component[], total: number}}
   */
  function findMarks(mask, ink, support = null) {
    const labels = labelled(mask, true), components = componentsOf(labels, ink);
    const total = sumOfMasses(components);
    const atBorder = components.filter((each) => each.touchesBorder && each.mass >= SPECK_FRACTION * total);
    let inner = components.filter((each) => !each.touchesBorder);
    const allInner = sumOfMasses(inner);
    const leastSize = support && inner.length ? LEAST_SIZE * max(mask.width, mask.height) : 0;
    if (support && inner.length) {
      const supports = support(labels);
      inner = inner.filter((each) => supports[each.numbers[0]] >= LEAST_SUPPORT);
    }
    const innerTotal = sumOfMasses(inner);
    inner = inner.filter((each) => each.mass >= SPECK_FRACTION * innerTotal);
    const candidates = withoutLineMarks(withoutFrames(inner, labels), labels);
    let digits = candidates.length ? digitsOf(candidates) : [];
    if (support) {
      digits = digits.filter((digit) => digit.size >= leastSize);
      if (sumOfMasses(digits) < LEAST_MASS * allInner) digits = [];
    }
    return { labels, digits, atBorder, total };
  }

  function componentsOf({ width, height, data, count }, ink) {
    const boxes = Array.from({ length: count + 1 }, () => ({ top: height, left: width, bottom: 0, right: 0 }));
    const mass = new Float64Array(count + 1), area = new Float64Array(count + 1);
    for (let y = 0, i = 0; y < height; y++) {
      for (let x = 0; x < width; x++, i++) {
        const number = data[i], box = boxes[number];
        mass[number] += ink.data[i];
        area[number]++;
        box.top = min(box.top, y);
        box.left = min(box.left, x);
        box.bottom = y + 1;
        box.right = max(box.right, x + 1);
      }
    }
    return boxes.slice(1).map((box, i) => {
      const number = i + 1, isAtEdge = !box.top || !box.left || box.bottom === height || box.right === width;
      return new Component([number], box, mass[number], mass[number] / area[number], isAtEdge);
    });
  }

  /** Leave out boxes and circles: they enclose a mark, and have no ink where it is. */
  function withoutFrames(components, labels) {
    const share = (outer, inner) => {
      const area = isIn(cropped(labels, inner), outer.numbers);
      return countOf(area) / area.data.length;
    };
    return components.filter((outer) => !components.some((inner) =>
      inner !== outer && outer.encloses(inner) && inner.size >= 0.3 * outer.size && share(outer, inner) < 0.02));
  }

  /** Leave out straight level and upright lines, unless nothing else is there. */
  function withoutLineMarks(components, labels) {
    const lines = components.filter((each) => isLineMark(each, labels));
    const others = components.filter((each) => !lines.includes(each));
    if (!lines.length) return components;
    const longest = max(...lines.map((line) => line.size));
    // A digit 1 is a line, too. It is upright, and other lines beside it are longer.
    let upright = lines.filter((line) => line.height > line.width);
    if (others.some((other) => other.size >= 0.25 * longest)) {
      const tallest = max(...others.map((other) => other.height));
      const isOne = upright.length === 1 && 0.6 * tallest < upright[0].height && upright[0].height < 1.15 * tallest;
      return isOne ? [...others, ...upright] : others;
    }
    if (upright.length > 1) {
      const shortest = min(...upright.map((line) => line.height));
      upright = upright.filter((line) => line.height < 1.15 * shortest);
    }
    return upright.length ? upright : components;
  }

  /** Return whether a component is narrow, and level or upright: by the axes of its ellipse of inertia. */
  function isLineMark(component, labels) {
    const area = isIn(cropped(labels, component), component.numbers), xs = [], ys = [];
    area.data.forEach((value, i) => {
      if (!value) return;
      xs.push(i % area.width);
      ys.push(floor(i / area.width));
    });
    if (xs.length <= 2) return false;
    const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
    const [meanX, meanY] = [mean(xs), mean(ys)];
    const covariance = (first, second) => xs.reduce((sum, _, i) => sum + first(i) * second(i), 0) / (xs.length - 1);
    const dx = (i) => xs[i] - meanX, dy = (i) => ys[i] - meanY;
    const xx = covariance(dx, dx) + 1e-9, yy = covariance(dy, dy) + 1e-9, xy = covariance(dx, dy);
    const longer = (xx + yy) / 2 + sqrt(((xx - yy) / 2) ** 2 + xy * xy);
    const shorter = max(xx, yy) / longer * min(xx, yy) - xy / longer * xy;  // without cancellation
    const angle = Math.atan2(2 * xy, xx - yy) / 2;
    const isLevelOrUpright = max(abs(cos(angle)), abs(sin(angle))) > cos(LARGEST_ANGLE * (Math.PI / 180));
    return isLevelOrUpright && sqrt(shorter / longer) < LINE_RATIO;
  }

  /** Join the parts of each digit, and return the digits of similar size; other components are left out. */
  function digitsOf(candidates) {
    const main = maxBy(candidates, ({ score }) => score);
    let groups = candidates.filter((each) => each.strength >= 0.45 * main.strength).sort((a, b) => b.mass - a.mass);
    for (let pair; (pair = pairOf(groups));) {
      groups = groups.filter((group) => !pair.includes(group));
      groups.push(pair[0].merged(pair[1]));
    }
    const best = maxBy(groups, ({ score }) => score);
    const tallest = max(...groups.filter(({ mass }) => mass >= 0.3 * best.mass).map(({ height }) => height));
    return groups.filter((group) =>
      group === best || (group.height >= SIMILAR * tallest && group.score >= 0.12 * best.score));
  }

  /** Return two parts of one digit, the one with more ink first; null if there are none. */
  function pairOf(groups) {
    for (const first of groups) {
      for (const second of groups) {
        if (first !== second && first.mass >= second.mass && areOneDigit(first, second)) return [first, second];
      }
    }
    return null;
  }

  /** Return whether two components are parts of one digit. `second` has less ink. */
  function areOneDigit(first, second) {
    const across = min(first.right, second.right) - max(first.left, second.left);
    const down = min(first.bottom, second.bottom) - max(first.top, second.top);
    const gap = max(-across, -down, 0);
    const taller = max(first.height, second.height), shorter = min(first.height, second.height);
    const narrower = max(1, min(first.width, second.width));
    if (shorter < SIMILAR * taller) {
      return gap <= max(2, (across > 0 ? GAP : GAP_BESIDE) * max(first.size, second.size));
    }
    if (down >= 0.5 * shorter) return across >= 0.5 * narrower;  // side by side, unless one is above much of the other
    if (across >= 0.3 * narrower) return -down <= 0.35 * taller;  // one above the other
    return gap <= 0.1 * taller;
  }

  // ---- edges.py

  /**
   * Return the part of each mark's outline where the picture returns to the level of the background.
   * @param {Object} labels
   * @param {Grey} grey
   * @param {Grey} background
   * @param {boolean} isDark whether marks are darker than the background
   * @returns {Float64Array} for each number
   */
  function edgeSupport(labels, grey, background, isDark) {
    const free = maskOf(labels, (label) => label === 0);
    const nearest = nearestZeros(free), distance = distances(free, nearest);
    const extreme = windowed(grey, 1, 1, !isDark);
    const length = new Float64Array(labels.count + 1), found = new Float64Array(labels.count + 1);
    distance.forEach((away, i) => {
      if (!(away > 1.5 && away < 3.5)) return;
      const mark = nearest[i], ink = extreme.data[mark], difference = fround(background.data[mark] - ink);
      length[labels.data[mark]]++;
      const rise = fround(grey.data[i] - ink) * Math.sign(difference);
      if (rise > fround(0.5 * abs(difference))) found[labels.data[mark]]++;
    });
    return length.map((count, number) => (count > 0 ? found[number] / count : 1));
  }

  // ---- crops.py

  const STRONG = 0.3;
  const STROKE_STRENGTH = 0.42;
  const THIN = 0.3;
  const STROKE_REACH = 0.04;
  const RULED_REACH = 0.015;
  const STROKE_PART = 0.93;
  const WIDE = 1.05;
  const PART_HEIGHT = 0.5;
  const PART_OVERLAP = 0.15;

  /** Separate digits with narrow gaps: return the ink of each, from left to right. */
  function separated(ink) {
    const { width, height } = ink;
    if (width < WIDE * height) return [ink];
    const around = padded(ink, 2), marks = findMarks(above(around, 255 * STRONG), around);
    const digits = marks.digits.slice().sort((a, b) => a.left - b.left);
    if (digits.length < 2 || digits.some((digit) => digit.height < PART_HEIGHT * height)) return [ink];
    for (let i = 1; i < digits.length; i++) {
      const [first, second] = [digits[i - 1], digits[i]];
      if (first.right - second.left > PART_OVERLAP * min(first.width, second.width)) return [ink];
    }
    return digits.map((digit) => {
      const near = dilatedMask(isIn(marks.labels, digit.numbers), 2);
      const part = grid(around, around.data.map((value, i) => (near.data[i] ? value : 0)));
      return cropped(part, boxOf(maskOf(part, (value) => value > 0)));
    });
  }

  /** Return the box of the ink above the edge value, without what is faint or thin and far from the strokes. */
  function boxOfStrokes(ink, edge, isRuled) {
    const inked = above(ink, edge), whole = boxOf(inked), inside = cropped(inked, whole);
    const strokes = above(cropped(ink, whole), 255 * STROKE_STRENGTH);
    if (!strokes.data.some(Boolean)) return whole;
    const width = 2 * percentile(distances(padded(strokes, 1)), 98), side = rint(THIN * width);
    const thick = side > 1 ? dilatedMask(erodedMask(strokes, side), side - 1 - (side >> 1), side >> 1) : strokes;
    const size = max(strokes.width, strokes.height);
    const reach = max(2, rint((isRuled ? RULED_REACH : STROKE_REACH) * size));
    const near = dilatedMask(thick, reach);
    const box = boxOf(grid(near, near.data.map((value, i) => value & inside.data[i])));
    if (!box || max(box.bottom - box.top, box.right - box.left) >= size * (isRuled ? 1 : STROKE_PART)) return whole;
    return { top: whole.top + box.top, left: whole.left + box.left,
             bottom: whole.top + box.bottom, right: whole.left + box.right };
  }

  // ---- sheets.py

  const SHEET_SIDE = 128;
  const LEAST_AREA = 0.08;
  const LEAST_CONTRAST = 40;
  const QUADRILATERAL = 0.9;
  const SHORTEST_SIDE = 56;
  const LONGEST_SIDE = 3;
  const SHEET_EDGE = 2;

  /** Return where the sheet is, without its edge; null without a sheet of paper on a table of another brightness. */
  function findSheet(grey) {
    if (min(grey.width, grey.height) < SHORTEST_SIDE) return null;
    const small = shrunk(grey, SHEET_SIDE);
    for (const pixels of [small, grid(small, small.data.map((value) => 255 - value))]) {
      const labels = labelled(above(pixels, otsuThreshold(pixels.data)), false);
      if (!labels.count) continue;
      const areas = new Float64Array(labels.count + 1);
      for (const label of labels.data) if (label) areas[label]++;
      const largestArea = areas.indexOf(largest(areas));
      const sheet = filled(maskOf(labels, (label) => label === largestArea));
      const scale = max(grey.width, grey.height) / max(small.width, small.height);
      if (!isSheet(sheet, pixels, scale)) continue;
      let inside = sheet;
      for (let times = 0; times < SHEET_EDGE; times++) inside = erodedMask(inside, 3);
      return nearest(inside, grey.width, grey.height);
    }
    return null;
  }

  /** Resize a mask by repeating pixels, as Pillow does. */
  function nearest(mask, width, height) {
    const places = (length, newLength) => {
      const step = length / newLength;
      let at = step * 0.5;
      return Int32Array.from({ length: newLength }, () => {
        const place = floor(at);
        at += step;
        return place;
      });
    };
    const columns = places(mask.width, width), rows = places(mask.height, height);
    const out = { width, height, data: new Uint8Array(width * height) };
    for (let y = 0, i = 0; y < height; y++) {
      for (let x = 0; x < width; x++) out.data[i++] = mask.data[rows[y] * mask.width + columns[x]];
    }
    return out;
  }

  /** Return whether the area has four corners, is lighter than its surroundings, and has a table round it. */
  function isSheet(area, pixels, scale) {
    const { width, height, data } = area;
    const sides = [0, 0, 0, 0];
    for (let x = 0; x < width; x++) {
      sides[0] += data[x] / width;
      sides[1] += data[(height - 1) * width + x] / width;
    }
    for (let y = 0; y < height; y++) {
      sides[2] += data[y * width] / height;
      sides[3] += data[(y + 1) * width - 1] / height;
    }
    if (sides.filter((part) => part > 0.03).length > 1) return false;
    const part = countOf(area) / data.length;
    if (part < LEAST_AREA || part >= 0.97) return false;
    const [inside, outside] = [1, 0].map((value) => median(chosen(pixels.data, (i) => data[i] === value)));
    if (fround(inside - outside) < LEAST_CONTRAST) return false;
    const corners = cornersOf(area), between = polygon(corners, width, height);
    let common = 0, either = 0;
    for (let i = 0; i < data.length; i++) {
      common += data[i] & between.data[i];
      either += data[i] | between.data[i];
    }
    const lengths = corners.map(([x, y], i) => {
      const [x0, y0] = corners[(i + 3) % 4];
      return sqrt((x - x0) ** 2 + (y - y0) ** 2) + 1;
    });
    const isLong = max(...lengths) > LONGEST_SIDE * min(...lengths);
    return common / either >= QUADRILATERAL && min(...lengths) * scale >= SHORTEST_SIDE && !isLong;
  }

  /** Return the x and y of the area's corners: extreme points in four directions, of the largest quadrilateral. */
  function cornersOf(area) {
    const { width, data } = area, inner = erodedByNeighbours(area), xs = [], ys = [];
    for (let i = 0; i < data.length; i++) {
      if (!data[i] || inner.data[i]) continue;
      xs.push(i % width);
      ys.push(floor(i / width));
    }
    let best = null, largestArea = -1;
    for (let angle = 0; angle < 90; angle += 3) {
      const corners = [0, 90, 180, 270].map((turn) => {
        const radians = (angle + turn) * (Math.PI / 180), down = sin(radians), across = cos(radians);
        let farthest = 0, most = -Infinity;
        for (let i = 0; i < xs.length; i++) {
          const distance = down * ys[i] + across * xs[i];
          if (distance > most) [farthest, most] = [i, distance];
        }
        return [xs[farthest], ys[farthest]];
      });
      const twice = abs(corners.reduce((sum, [x, y], i) => {
        const [x0, y0] = corners[(i + 3) % 4];
        return sum + x * y0 - y * x0;
      }, 0));
      if (twice > largestArea) [best, largestArea] = [corners, twice];
    }
    return best;
  }

  /** Fill a polygon, as Pillow does. */
  function polygon(corners, width, height) {
    const out = { width, height, data: new Uint8Array(width * height) };
    const fill = (first, y, last) => {
      if (y < 0 || y >= height) return;
      out.data.fill(1, y * width + clip(first, 0, width), y * width + clip(last + 1, 0, width));
    };
    const roundUp = (value) => (value >= 0 ? floor(value + 0.5) : -floor(-value + 0.5));
    const roundDown = (value) => (value >= 0 ? ceil(value - 0.5) : -ceil(-value - 0.5));
    const edges = [];
    corners.forEach(([x0, y0], i) => {
      const [x1, y1] = corners[(i + 1) % corners.length];
      if (x0 === x1 && y0 === y1 && i === corners.length - 1) return;
      if (y0 === y1) fill(min(x0, x1), y0, max(x0, x1));
      else edges.push({ x0, y0, slope: fround((x1 - x0) / (y1 - y0)), top: min(y0, y1), bottom: max(y0, y1) });
    });
    const bottom = max(...corners.map(([, y]) => y));
    const at = ({ x0, y0, slope }, y) => fround(fround((y - y0) * slope) + x0);
    for (let y = min(...corners.map(([, row]) => row)); y <= bottom; y++) {
      const crossings = [];
      edges.forEach((edge, i) => {
        if (y < edge.top || y > edge.bottom) return;
        let x = at(edge, y);
        if (y === edge.bottom && y < bottom) crossings.push(x);
        else if ((y === edge.top || y === edge.bottom) && edge.slope !== 0) x = joined(edges, i, x, y, at, roundUp);
        crossings.push(x);
      });
      crossings.sort((a, b) => a - b);
      for (let i = 1; i < crossings.length; i += 2) fill(roundUp(crossings[i - 1]), y, roundDown(crossings[i]));
    }
    return out;
  }

  /** Return where a polygon's edge ends at a corner with an edge before it: the two stay connected. */
  function joined(edges, i, x, y, at, round) {
    const edge = edges[i];
    for (const other of edges.slice(0, i)) {
      if ((y !== other.top && y !== other.bottom) || other.slope === 0 || round(x) !== round(at(other, y))) continue;
      const row = y + (y === edge.bottom ? -1 : 1);
      if (row < other.top || row > other.bottom) continue;
      const [here, there] = [at(edge, row), at(other, row)];
      if (x > here + 1 && x > there + 1) return round(max(here, there)) + 1;
      if (x < here - 1 && x < there - 1) return round(min(here, there)) - 1;
      return x;
    }
    return x;
  }

  // ---- ink.py

  const SIDE = 28;
  const BOX_SIDE = 20;
  const LOCAL_SIDE = 512;
  const CELLS = 128;
  const NOISE_MULTIPLE = 5;
  const EDGE_FRACTION = 0.02;
  const STRONG_FRACTIONS = [0.3, 0.55];
  const BLOB_FRACTION = 0.5;
  const CUT_BLOB_FRACTION = 0.38;
  const CORNER_BLOB_FRACTION = 0.28;
  const SHEET_MARK = 0.15;
  const SHEET_OVERLAP = 0.02;
  const SHEET_MARGIN = 0.95;
  const SHEET_CONTRAST = 0.2;
  const CUT_MASS = 0.85;
  const REST_MASS = 0.2;
  const CUT_SIDE = 0.4;
  const MOST_MASS = 0.3;
  const CUT_PLACES = 8;

  /**
   * The ink of a picture under one estimate of the background.
   * @typedef {{ink: Grey, edge: number, isRuled: boolean, isDark: boolean, cell: number, marks: Object}} Reading
   *   ink: without lines; edge: ink above it enlarges the bounding box; isRuled: whether lines were removed;
   *   isDark: whether ink is darker than the background; cell: the side of a cell in pixels; marks: of cells
   */

  /**
   * Return the ink of each digit, cropped; null without ink; an empty list if no mark can be a digit.
   * @param {Grey} grey
   * @param {"auto"|boolean} invert whether ink is darker than the background
   * @returns {?Grey[]}
   */
  function findDigits(grey, invert) {
    grey = shrunk(grey, LARGEST_SIDE);
    const sheet = sheetReading(grey, invert);
    if (sheet) return croppedDigits(sheet);
    const smooth = smoothReading(grey, invert);
    if (smooth && isClean(smooth)) return croppedDigits(smooth);
    const cutOff = smooth && cutOffDigit(smooth);
    let local = localReading(shrunk(grey, LOCAL_SIDE), invert);
    if (cutOff) {
      const mass = local ? max(...local.marks.digits.map((digit) => digit.mass)) : 0;
      const isRest = mass < REST_MASS * cutOff.mass || fills(smooth, cutOff) || isGap(smooth, cutOff, local);
      if (!local || (isRest && isCutByStrokes(smooth, cutOff))) return [croppedDigit(smooth, cutOff)];
    }
    // Without a smooth background, most ink must belong to the digits; noise has many marks.
    if (local && !smooth && sumOfMasses(local.marks.digits) < MOST_MASS * local.marks.total) local = null;
    if (local) return croppedDigits(local);
    return smooth ? [] : null;
  }

  /**
   * Scale ink to 20 x 20 pixels, keeping its aspect ratio, and put its centre of mass at the centre of 28 x 28.
   * @param {Grey} ink cropped to the digit
   * @returns {Uint8Array} (784,)
   */
  function fitInk(ink) {
    const scale = BOX_SIDE / max(ink.width, ink.height);
    const [width, height] = [ink.width, ink.height].map((side) => max(1, rint(side * scale)));
    const small = resized(ink, width, height).data, gain = fround(255 / largest(small));
    for (let i = 0; i < small.length; i++) small[i] *= gain;
    const rows = Float64Array.from({ length: height }, (_, y) => sumOf(small, exact, y * width, width));
    const columns = new Float64Array(width);
    for (let i = 0; i < small.length; i++) columns[i % width] += small[i];
    const centre = (weights) => sumOf(weights.map((weight, i) => i * weight), exact) / sumOf(weights, exact);
    const top = clip(rint(SIDE / 2 - centre(rows)), 0, SIDE - height);
    const left = clip(rint(SIDE / 2 - centre(columns)), 0, SIDE - width);
    const out = new Uint8Array(SIDE * SIDE);
    for (let i = 0; i < small.length; i++) out[(top + floor(i / width)) * SIDE + left + i % width] = rint(small[i]);
    return out;
  }

  /** Read the picture with a smooth background, as of a sheet that fills the picture; null without ink. */
  function smoothReading(grey, invert) {
    const contrast = smoothContrast(grey).data, ink = new Float32Array(contrast.length);
    if (invert === "auto") {
      let dark = 0, light = 0;
      for (let i = 0; i < contrast.length; i++) {
        if (contrast[i] < 0) dark -= contrast[i];
        else light += contrast[i];
      }
      invert = dark > light;
    }
    for (let i = 0; i < contrast.length; i++) {
      if (invert) contrast[i] = -contrast[i];
      ink[i] = max(contrast[i], 0);
    }
    const threshold = otsuThreshold(ink), strong = chosen(ink, (i) => ink[i] > threshold);
    if (!strong.length) return null;
    const scaled = scaledInk(grid(grey, ink), strong, robustDeviation(chosen(contrast, (i) => ink[i] <= threshold)));
    return scaled && marked(scaled.ink, scaled.edge, invert);
  }

  /** Read the picture with the background round each place; null without a digit. */
  function localReading(grey, invert) {
    const kinds = invert === "auto" ? [true, false] : [invert];
    const readings = kinds.map((isDark) => localReadingOf(grey, isDark)).filter(Boolean);
    if (!readings.length) return null;
    const best = maxBy(readings, scoreOf);
    for (const other of readings) {
      // The gaps between strokes look like strokes of the other kind, but the strokes reach further.
      if (other === best || !boundsOf(other).encloses(boundsOf(best))) continue;
      if (scoreOf(other) > 0.2 * scoreOf(best)) return other;
    }
    return best;
  }

  function localReadingOf(grey, isDark) {
    const { contrast, background } = localContrast(grey, isDark);
    const ink = contrast.data.map((value) => max(value, 0)), threshold = otsuThreshold(ink);
    const strong = chosen(ink, (i) => ink[i] > threshold);
    const full = strong.length ? percentile(strong, 90) : 0;
    if (full < 2 * MIN_CONTRAST) return null;
    const cell = cellOf(grey), cells = [grey, background].map((pixels) => cellMeans(pixels, cell, true));
    const support = (labels) => edgeSupport(labels, ...cells, isDark);
    const gain = fround(255 / full);
    let first = null;
    for (const fraction of STRONG_FRACTIONS) {
      first = marked(grid(grey, ink.map((value) => min(fround(value * gain), 255))), 255 * fraction, isDark, support);
      if (first.marks.digits.length) break;
    }
    if (!first.marks.digits.length) return null;
    // The strength of these digits and the noise round them set the scale.
    const bounds = boundsOf(first), margin = floor(bounds.size / 4) + 2, edge = fround(first.edge);
    const isNear = enlarged(isIn(first.marks.labels, numbersOf(first)), cell, grey);
    const kept = ink.map((value, i) => (first.ink.data[i] > 0 ? value : 0));
    const around = {
      top: max(bounds.top - margin, 0) * cell, bottom: min((bounds.bottom + margin) * cell, grey.height),
      left: max(bounds.left - margin, 0) * cell, right: min((bounds.right + margin) * cell, grey.width),
    };
    const nearInk = cropped(first.ink, around).data, nearContrast = cropped(contrast, around).data;
    const noise = robustDeviation(chosen(nearContrast, (i) => nearInk[i] <= edge));
    const scaled = scaledInk(grid(grey, kept), chosen(kept, (i) => isNear.data[i] && first.ink.data[i] > edge), noise);
    return scaled && { ...first, ink: scaled.ink, edge: max(scaled.edge, 255 * STRONG_FRACTIONS[0] / 2) };
  }

  /** Scale ink to 0 ... 255, from the noise to the strong ink; null if it is hardly stronger than the noise. */
  function scaledInk(ink, strong, noise) {
    const full = percentile(strong, 90);
    if (full < max(MIN_CONTRAST, NOISE_MULTIPLE * noise)) return null;
    const floorOfInk = min(3 * noise, full / 2), gain = 255 / (full - floorOfInk);
    const [low, factor] = [fround(floorOfInk), fround(gain)];
    const scaled = new Float32Array(ink.data.length);
    for (let i = 0; i < scaled.length; i++) scaled[i] = clip(fround(ink.data[i] - low) * factor, 0, 255);
    return { ink: grid(ink, scaled), edge: 255 * EDGE_FRACTION + min(3 * noise * gain, 100) };
  }

  /** Remove lines, in place, and find the marks. */
  function marked(ink, edge, isDark, support = null) {
    const { width, height, data } = ink, mask = above(ink, edge), rest = withoutLines(mask);
    let isRuled = false;
    for (let i = 0; i < data.length; i++) {
      if (!mask.data[i] || rest.data[i]) continue;
      data[i] = 0;
      isRuled = true;
    }
    const cell = cellOf(ink), sums = cellMeans(ink, cell, false), limit = fround(edge);
    const isMarked = grid(sums, new Uint8Array(sums.data.length));
    for (let y = 0, i = 0; y < height; y++) {
      const row = floor(y / cell) * sums.width;
      for (let x = 0; x < width; x++, i++) if (data[i] > limit) isMarked.data[row + floor(x / cell)] = 1;
    }
    return { ink, edge, isRuled, isDark, cell, marks: findMarks(isMarked, sums, support) };
  }

  /** Return the side of a cell in pixels. */
  const cellOf = ({ width, height }) => ceil(max(width, height) / CELLS);

  /** Return the means of cells. Outside of the picture are zeros or, if `isRepeated`, its edges. */
  function cellMeans({ width, height, data }, cell, isRepeated) {
    if (cell === 1) return { width, height, data };
    const out = { width: ceil(width / cell), height: ceil(height / cell), data: null }, line = new Float32Array(cell);
    out.data = new Float32Array(out.width * out.height);
    for (let row = 0, to = 0; row < out.height; row++) {
      for (let column = 0; column < out.width; column++) {
        let sum = 0;
        for (let dy = 0; dy < cell; dy++) {
          const y = row * cell + dy;
          let part = 0;
          for (let dx = 0; dx < cell; dx++) {
            const x = column * cell + dx, isInside = x < width && y < height;
            line[dx] = isInside || isRepeated ? data[min(y, height - 1) * width + min(x, width - 1)] : 0;
            part = fround(part + line[dx]);
          }
          sum = fround(sum + (cell < 8 ? part : sumOf(line, fround)));
        }
        out.data[to++] = sum / (cell * cell);
      }
    }
    return out;
  }

  /** Return a mask of cells as a mask of the pixels of a picture. */
  function enlarged(mask, cell, { width, height }) {
    const out = { width, height, data: new Uint8Array(width * height) };
    for (let y = 0, i = 0; y < height; y++) {
      for (let x = 0; x < width; x++) out.data[i++] = mask.data[floor(y / cell) * mask.width + floor(x / cell)];
    }
    return out;
  }

  const scoreOf = (reading) => max(...reading.marks.digits.map((digit) => digit.score));
  const boundsOf = (reading) => reading.marks.digits.reduce((bounds, digit) => bounds.merged(digit));
  const numbersOf = (reading) => reading.marks.digits.flatMap((digit) => digit.numbers);

  /** Return whether the ink consists of digits alone: no part is at the border or solid. */
  function isClean(reading) {
    const { digits, atBorder } = reading.marks;
    return digits.length > 0 && !atBorder.length && !digits.some((digit) => isBlob(reading, digit, BLOB_FRACTION));
  }

  /** Return whether a mark contains a filled square of this fraction of its size. */
  function isBlob(reading, digit, fraction) {
    const mask = isIn(cropped(reading.marks.labels, digit), digit.numbers), side = floor(fraction * digit.size) + 2;
    return erodedMask(mask, side).data.some(Boolean);
  }

  /** Read what is on a sheet of paper on a table; null without a sheet or a digit on it. */
  function sheetReading(grey, invert) {
    const sheet = findSheet(grey), area = sheet && boxOf(sheet);
    if (!sheet) return null;
    const inside = cropped(sheet, area).data, level = median(chosen(grey.data, (i) => sheet.data[i]));
    const paper = cropped(grey, area);
    paper.data = paper.data.map((value, i) => (inside[i] ? value : level));
    const found = smoothReading(paper, invert);
    if (!found || !isClean(found)) return null;
    const isMark = enlarged(isIn(found.marks.labels, numbersOf(found)), found.cell, paper);
    const inks = chosen(paper.data, (i) => isMark.data[i] && found.ink.data[i] > 127);
    const outside = isMark.data.reduce((count, value, i) => count + (value && !inside[i] ? 1 : 0), 0);
    // The uneven ink of a thick digit is as large as the digit; what is written on a sheet leaves a margin.
    if (outside > SHEET_OVERLAP * countOf(isMark) || !inks.length) return null;
    const difference = abs(fround(level - median(chosen(grey.data, (i) => !sheet.data[i]))));
    const isStrong = abs(fround(level - median(inks))) >= fround(fround(SHEET_CONTRAST) * difference);
    const box = boxOf(isMark), [width, height] = [box.right - box.left, box.bottom - box.top];
    const hasMargin = width <= SHEET_MARGIN * paper.width && height <= SHEET_MARGIN * paper.height;
    return isStrong && hasMargin && max(width, height) >= SHEET_MARK * max(paper.width, paper.height) ? found : null;
  }

  /** Return the digit that touches the border of the picture, if nothing else is there. */
  function cutOffDigit(reading) {
    const { atBorder, total } = reading.marks;
    if (!atBorder.length) return null;
    const digit = maxBy(atBorder, ({ mass }) => mass);
    if (digit.mass < CUT_MASS * total) return null;
    const fraction = coversCorner(reading, digit) ? CORNER_BLOB_FRACTION : CUT_BLOB_FRACTION;
    return isBlob(reading, digit, fraction) ? null : digit;
  }

  /** Return whether the digit covers a corner of the picture, as shadows do. */
  function coversCorner({ marks: { labels } }, digit) {
    const { width, height } = labels, mark = isIn(labels, digit.numbers);
    const ends = (length) => [[0, min(4, length)], [max(0, length - 4), length]];
    const rows = ends(height), columns = ends(width);
    return rows.some(([top, bottom]) => columns.some(([left, right]) => {
      const corner = cropped(mark, { top, left, bottom, right });
      return countOf(corner) / corner.data.length > 0.5;
    }));
  }

  /** Return whether the digit reaches from side to side, as in a picture that is cut to its size. */
  const fills = ({ marks: { labels } }, digit) =>
    digit.height >= 0.85 * labels.height && digit.width >= 0.85 * labels.width;

  /** Return whether the other reading found what the digit encloses, such as the hole of a 0. */
  function isGap(reading, digit, other) {
    if (!other || other.isDark === reading.isDark || coversCorner(reading, digit)) return false;
    const longer = ({ marks: { labels } }) => max(labels.width, labels.height);
    return digit.encloses(boundsOf(other).scaled(longer(reading) / longer(other)));
  }

  /** Return whether the ink meets the border as a few strokes, unlike a shadow. */
  function isCutByStrokes(reading, digit) {
    const { labels } = reading.marks, { width, height } = labels, mark = isIn(labels, digit.numbers).data;
    const column = (x) => Array.from({ length: height }, (_, y) => mark[y * width + x]);
    const row = (y) => Array.from(mark.subarray(y * width, (y + 1) * width));
    const sides = [row(0), column(width - 1), row(height - 1).reverse(), column(0).reverse()];
    const round = sides.flat(), places = round.filter((value, i) => i && value > round[i - 1]).length;
    const isNarrow = sides.every((side) => countOf({ data: side }) / side.length <= CUT_SIDE);
    return places <= CUT_PLACES && (fills(reading, digit) || isNarrow);
  }

  const croppedDigits = (reading) =>
    inReadingOrder(reading.marks.digits).flatMap((digit) => separated(croppedDigit(reading, digit)));

  /** Order digits in rows from top to bottom, and from left to right within a row. */
  function inReadingOrder(digits) {
    const rows = [];
    for (const digit of digits.slice().sort((a, b) => a.top + a.bottom - b.top - b.bottom)) {
      const middle = (digit.top + digit.bottom) / 2, row = rows[rows.length - 1];
      if (row?.some((other) => other.top < middle && middle < other.bottom)) row.push(digit);
      else rows.push([digit]);
    }
    return rows.flatMap((row) => row.sort((a, b) => a.left + a.right - b.left - b.right));
  }

  /** Return the ink of the digit and of its surroundings of one cell, cropped to the pixels above the edge value. */
  function croppedDigit(reading, digit) {
    const near = enlarged(dilatedMask(isIn(reading.marks.labels, digit.numbers), 1), reading.cell, reading.ink);
    const ink = grid(reading.ink, reading.ink.data.slice());
    for (let i = 0; i < ink.data.length; i++) if (!near.data[i]) ink.data[i] = 0;
    return cropped(ink, boxOfStrokes(ink, reading.edge, reading.isRuled));
  }

  // ---- images.py and models/pictures.py

  /**
   * Convert a picture of one digit to a row of pixels like MNIST's: light on black, centred.
   * @param {Picture} picture
   * @param {{invert?: "auto"|boolean}} options whether the digit is dark on light; "auto" finds out
   * @returns {Uint8Array} (784,)
   */
  function prepareImage(picture, { invert = "auto" } = {}) {
    if (invert !== "auto" && typeof invert !== "boolean") {
      throw new RangeError(`invert is ${JSON.stringify(invert)}, expected "auto", true or false`);
    }
    const digits = findDigits(greyOf(picture), invert), name = nameOf(picture);
    if (!digits) {
      throw new DataError(`${name}: no ink: found nothing that stands out from the background, expected a digit`);
    }
    if (!digits.length) {
      throw new DataError(`${name}: cannot find one digit: all marks are at the border or too wide, `
        + "expected a digit with free space around it");
    }
    if (digits.length > 1) {
      throw new DataError(`${name}: found ${digits.length} marks of similar size, `
        + "expected one digit; for several, use prepare_images, or --many on the command line");
    }
    return fitInk(digits[0]);
  }

  /**
   * Return a picture of one digit as a row for a model, as fastnn.models.pictures.picture_rows.
   *
   * Models for 28 x 28 images get MNIST's preparation, in their own range and with their own ink. Models for images of
   * another size get the grey pixels of pictures of that size.
   *
   * @param {{imageShape: ?[number, number], pixels: [number, number]}} model
   * @param {Picture} picture
   * @returns {Uint8Array|Float32Array}
   */
  function rowFor({ imageShape, pixels: [background, ink] }, picture) {
    if (!imageShape) {
      throw new DataError("the model is for rows of a table, not for pictures: expected an array or a frame");
    }
    const [height, width] = imageShape, high = max(background, ink), low = min(background, ink);
    if (height === SIDE && width === SIDE) {
      const prepared = prepareImage(picture), gain = fround((ink - background) / 255);
      if (low === 0 && high === 255) return ink ? prepared : prepared.map((value) => 255 - value);
      return Float32Array.from(prepared, (value) => fround(background) + fround(value * gain));
    }
    const grey = greyOf(picture);
    if (grey.height !== height || grey.width !== width) {
      throw new DataError(`${nameOf(picture)}: found a picture of ${grey.height} x ${grey.width} pixels, `
        + `expected ${height} x ${width}, as in training`);
    }
    if (low === 0 && high === 255) return Uint8Array.from(grey.data, rint);
    const gain = fround((high - low) / 255);
    return grey.data.map((value) => fround(low) + fround(value * gain));
  }

  return { readFile, prepareImage, rowFor, DataError };
})();
