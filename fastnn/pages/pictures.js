"use strict";

/**
 * Reads pictures in the browser as fastnn.datasets.pictures reads them in Python.
 *
 *   const picture = await Pictures.readFile(file);  // a File or Blob
 *
 * A picture is { width, height, data, name }: `data` holds rows of pixels from 0 to 255, of 1 (grey), 2 (grey and
 * opacity), 3 (RGB) or 4 (RGBA) numbers each; `name` begins the messages of errors and may be left out. ImageData of a
 * canvas is a picture, too.
 *
 * All errors that a user can cause are Pictures.DataError; their message is one line.
 *
 * @typedef {{width: number, height: number, data: ArrayLike<number>, name?: string}} Picture
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
      bitmap = await createImageBitmap(new Blob([bytes]), { imageOrientation: "from-image", colorSpaceConversion: "none" });
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
    const text = (start, length) =>
      String.fromCharCode(...new Uint8Array(bytes.buffer, start, Math.max(0, Math.min(length, bytes.byteLength - start))));
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
          const opacity = channels === 4 ? strip[at + 3] : 255;
          if (opacity === 255) {
            for (let channel = 0; channel < channels; channel++) sums[to + channel] += strip[at + channel];
          } else {
            for (let channel = 0; channel < 3; channel++) sums[to + channel] += times255th(strip[at + channel], opacity);
            sums[to + 3] += opacity;
          }
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

  return { readFile, DataError };
})();
