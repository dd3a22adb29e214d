"use strict";

/**
 * A trained network in JavaScript: the forward pass of every layer, and which inputs speak for and against a class.
 * The formulas are those of fastnn.backends.reference, for one row, in float64. Names are those of Python: `weight` of
 * a dense layer is (inputs, units), that of a convolution (channels, kernel height, kernel width, filters); an image is
 * (channels, height, width), row by row.
 *
 * @typedef {{kind: string, activation: string, kernel?: number[], size?: number[], stride?: number[],
 *   padding?: number[], epsilon?: number}} Layer  as fastnn.network.layers writes it to JSON
 *
 * @typedef {{layers: Layer[], shapes: number[][], output: string, inputScale: number,
 *   standardization?: {mean: ArrayLike<number>, scale: ArrayLike<number>} | null}} Chain
 *   shapes: of an input row, and of the output of each layer
 *
 * @typedef {{weights: ArrayLike<number>[], biases: ArrayLike<number>[], statistics: ArrayLike<number>[]}} Arrays
 *   as the attributes of fastnn.Network: one weight and one bias for each layer that has some
 *
 * @typedef {{layer: Layer, inputShape: number[], shape: number[], weight?: ArrayLike<number>,
 *   bias?: ArrayLike<number>, statistics: ArrayLike<number>[]}} Link  a layer with its arrays
 *
 * @typedef {Chain & {links: Link[]}} Whole
 *
 * @typedef {{inp: Float64Array, sums: Float64Array, out: Float64Array, taps?: Int32Array}} Step
 *   what went into a layer, what it computed before its activation, and after it; taps: where in each window of a max
 *   pool the largest number was
 *
 * @typedef {{steps: Step[], logits: Float64Array, outputs: Float64Array}} Pass
 */
const Network = (() => {
  const LEAKY_SLOPE = 0.01, ELU_ALPHA = 1;

  const logistic = (/** @type {number} */ sum) => 0.5 * (1 + Math.tanh(0.5 * sum));
  const density = (/** @type {number} */ sum) => Math.exp(-0.5 * sum * sum) / Math.sqrt(2 * Math.PI);

  /** The probability that a standard normal variable is below `sum`. @param {number} sum */
  function normalCdf(sum) {
    const FAR = 4, x = Math.abs(sum);
    if (x > 40) return sum > 0 ? 1 : 0;
    if (x < FAR) { // x + x^3 / 3 + x^5 / (3 * 5) + ..., whose terms have one sign (Abramowitz and Stegun 26.2.11)
      let term = x, total = x;
      for (let k = 3; term > total * 1e-17; k += 2) total += term *= (x * x) / k;
      return 0.5 + Math.sign(sum) * density(x) * total;
    }
    let fraction = x; // the continued fraction x + 1 / (x + 2 / (x + ...)) of the tail (26.2.14)
    for (let k = 60; k >= 1; k--) fraction = x + k / fraction;
    const tail = density(x) / fraction;
    return sum > 0 ? 1 - tail : tail;
  }

  /**
   * The table of activations: forward of a sum, and the derivative of (sum, output).
   * @type {Object<string, {forward: (sum: number) => number, derivative: (sum: number, out: number) => number}>}
   */
  const ACTIVATIONS = {
    relu: { forward: (sum) => (sum > 0 ? sum : 0), derivative: (_, out) => (out > 0 ? 1 : 0) },
    leaky_relu: {
      forward: (sum) => (sum < 0 ? LEAKY_SLOPE * sum : sum), derivative: (_, out) => (out > 0 ? 1 : LEAKY_SLOPE),
    },
    elu: { forward: (sum) => (sum > 0 ? sum : Math.expm1(sum)), derivative: (_, out) => (out > 0 ? 1 : out + ELU_ALPHA) },
    gelu: {
      forward: (sum) => sum * normalCdf(sum), derivative: (sum) => normalCdf(sum) + sum * density(sum),
    },
    silu: {
      forward: (sum) => sum * logistic(sum), derivative: (sum) => logistic(sum) * (1 + sum * (1 - logistic(sum))),
    },
    tanh: { forward: Math.tanh, derivative: (_, out) => 1 - out * out },
    logistic: { forward: logistic, derivative: (_, out) => out * (1 - out) },
    identity: { forward: (sum) => sum, derivative: () => 1 },
  };

  /** Softmax; the largest logit is subtracted first, which changes nothing and prevents overflow. */
  function softmax(/** @type {Float64Array} */ logits) {
    const largest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
    const exp = logits.map((logit) => Math.exp(logit - largest)), total = exp.reduce((a, b) => a + b, 0);
    return exp.map((each) => each / total);
  }

  /** The output functions of the table of losses. @type {Object<string, (logits: Float64Array) => Float64Array>} */
  const OUTPUTS = {
    softmax,
    logistic: (logits) => logits.map(logistic),
    identity: (logits) => logits.slice(),
    exp: (logits) => logits.map(Math.exp),
  };

  const sizeOf = (/** @type {number[]} */ shape) => shape.reduce((a, b) => a * b, 1);

  /**
   * Call `visit(output cell, input cell, channel of the output, tap)` for each number that a window sees.
   * @param {number[]} inputShape (channels, height, width)
   * @param {number[]} grid the number of windows, downwards and across
   * @param {{window: number[], stride: number[], padding: number[]}} settings
   * @param {(place: number, cell: number, tap: number) => void} visit  place and cell: within one channel
   */
  function eachTap(inputShape, grid, { window, stride, padding }, visit) {
    const [, height, width] = inputShape;
    for (let i = 0, place = 0; i < grid[0]; i++) {
      for (let j = 0; j < grid[1]; j++, place++) {
        for (let k = 0; k < window[0]; k++) {
          const row = i * stride[0] + k - padding[0];
          if (row < 0 || row >= height) continue;
          for (let l = 0; l < window[1]; l++) {
            const column = j * stride[1] + l - padding[1];
            if (column >= 0 && column < width) visit(place, row * width + column, k * window[1] + l);
          }
        }
      }
    }
  }

  const windowOf = (/** @type {Layer} */ layer) => ({
    window: layer.kernel || layer.size, stride: layer.stride, padding: layer.padding,
  });

  /**
   * The table of layers. `forward(link, inp)` returns the sums, and the taps of a max pool; `backward(link, dsums, step)`
   * the gradient of the inputs.
   * @type {Object<string, {forward: (link: Link, inp: Float64Array) => {sums: Float64Array, taps?: Int32Array},
   *   backward: (link: Link, dsums: Float64Array, step: Step) => Float64Array}>}
   */
  const LAYERS = {
    dense: {
      forward({ weight, bias }, inp) {
        const sums = Float64Array.from(bias), units = sums.length;
        for (let i = 0, at = 0; i < inp.length; i++, at += units) {
          const value = inp[i];
          if (value !== 0) for (let j = 0; j < units; j++) sums[j] += value * weight[at + j];
        }
        return { sums };
      },
      backward({ weight }, dsums, { inp }) {
        const units = dsums.length;
        return inp.map((_, i) => {
          let total = 0;
          for (let j = 0, at = i * units; j < units; j++) total += dsums[j] * weight[at + j];
          return total;
        });
      },
    },
    batch_norm: {
      forward(link, inp) {
        const { weight, bias, statistics: [mean] } = link, slopes = normSlopes(link), places = inp.length / weight.length;
        return { sums: inp.map((value, i) => {
          const unit = Math.floor(i / places);
          return slopes[unit] * (value - mean[unit]) + bias[unit];
        }) };
      },
      backward(link, dsums) {
        const slopes = normSlopes(link), places = dsums.length / slopes.length;
        return dsums.map((value, i) => value * slopes[Math.floor(i / places)]);
      },
    },
    conv2d: {
      forward({ layer, inputShape, shape, weight, bias }, inp) {
        const [channels, height, width] = inputShape, [filters, ...grid] = shape, settings = windowOf(layer);
        const places = grid[0] * grid[1], taps = sizeOf(settings.window);
        const sums = new Float64Array(places * filters); // (places, filters): the filters of a weight are neighbours
        for (let place = 0; place < places; place++) for (let o = 0; o < filters; o++) sums[place * filters + o] = bias[o];
        for (let c = 0; c < channels; c++) {
          const first = c * height * width;
          eachTap(inputShape, grid, settings, (place, cell, tap) => {
            const value = inp[first + cell];
            if (value === 0) return;
            for (let o = 0, to = place * filters, at = (c * taps + tap) * filters; o < filters; o++) {
              sums[to + o] += value * weight[at + o];
            }
          });
        }
        return { sums: transposed(sums, places, filters) };
      },
      backward({ layer, inputShape, shape, weight }, dsums, { inp }) {
        const [channels, height, width] = inputShape, [filters, ...grid] = shape, settings = windowOf(layer);
        const taps = sizeOf(settings.window), dinp = new Float64Array(inp.length);
        const dplaces = transposed(dsums, filters, grid[0] * grid[1]);
        for (let c = 0; c < channels; c++) {
          const first = c * height * width;
          eachTap(inputShape, grid, settings, (place, cell, tap) => {
            let total = 0;
            for (let o = 0, from = place * filters, at = (c * taps + tap) * filters; o < filters; o++) {
              total += dplaces[from + o] * weight[at + o];
            }
            dinp[first + cell] += total;
          });
        }
        return dinp;
      },
    },
    max_pool2d: {
      forward({ layer, inputShape, shape }, inp) {
        const [channels, height, width] = inputShape, places = shape[1] * shape[2];
        const sums = new Float64Array(channels * places), taps = new Int32Array(channels * places).fill(-1);
        for (let c = 0; c < channels; c++) {
          eachTap(inputShape, shape.slice(1), windowOf(layer), (place, cell, tap) => {
            const to = c * places + place, value = inp[c * height * width + cell];
            if (taps[to] < 0 || value > sums[to]) {
              sums[to] = value;
              taps[to] = tap;
            }
          });
        }
        return { sums, taps };
      },
      backward({ layer, inputShape, shape }, dsums, { inp, taps }) {
        const [channels, height, width] = inputShape, places = shape[1] * shape[2], dinp = new Float64Array(inp.length);
        for (let c = 0; c < channels; c++) {
          eachTap(inputShape, shape.slice(1), windowOf(layer), (place, cell, tap) => {
            const from = c * places + place;
            if (taps[from] === tap) dinp[c * height * width + cell] += dsums[from];
          });
        }
        return dinp;
      },
    },
    avg_pool2d: {
      forward({ layer, inputShape, shape }, inp) {
        const [channels, height, width] = inputShape, places = shape[1] * shape[2], share = 1 / sizeOf(layer.size);
        const sums = new Float64Array(channels * places);
        for (let c = 0; c < channels; c++) {
          eachTap(inputShape, shape.slice(1), windowOf(layer), (place, cell) => {
            sums[c * places + place] += share * inp[c * height * width + cell];
          });
        }
        return { sums };
      },
      backward({ layer, inputShape, shape }, dsums, { inp }) {
        const [channels, height, width] = inputShape, places = shape[1] * shape[2], share = 1 / sizeOf(layer.size);
        const dinp = new Float64Array(inp.length);
        for (let c = 0; c < channels; c++) {
          eachTap(inputShape, shape.slice(1), windowOf(layer), (place, cell) => {
            dinp[c * height * width + cell] += share * dsums[c * places + place];
          });
        }
        return dinp;
      },
    },
  };

  /** What each unit, or channel, of a batch normalisation multiplies its input by, in prediction. */
  function normSlopes(/** @type {Link} */ { layer, weight, statistics: [, variance] }) {
    return Float64Array.from(weight, (each, unit) => each / Math.sqrt(variance[unit] + layer.epsilon));
  }

  /** Return a matrix (rows, columns) as (columns, rows). */
  function transposed(/** @type {Float64Array} */ values, /** @type {number} */ rows, /** @type {number} */ columns) {
    const result = new Float64Array(values.length);
    for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) result[j * rows + i] = values[i * columns + j];
    return result;
  }

  /**
   * Return a network of a chain of layers and its arrays, which are kept, not copied.
   * @param {Chain} chain
   * @param {Arrays} arrays
   * @returns {Whole}
   */
  function create(chain, { weights, biases, statistics }) {
    let parameters = 0, measured = 0;
    const links = chain.layers.map((layer, number) => {
      /** @type {Link} */
      const link = { layer, inputShape: chain.shapes[number], shape: chain.shapes[number + 1], statistics: [] };
      if (!(layer.kind in LAYERS) || !(layer.activation in ACTIVATIONS)) {
        throw new Error(`layer ${number + 1} is ${layer.kind} ${layer.activation}, which this page cannot compute`);
      }
      if (!layer.kind.endsWith("pool2d")) {
        link.weight = weights[parameters];
        link.bias = biases[parameters++];
      }
      if (layer.kind === "batch_norm") link.statistics = statistics.slice(measured, (measured += 2));
      return link;
    });
    return { ...chain, links };
  }

  /** Return a row of inputs as the first layer takes it: scaled or standardised. */
  function scaled(/** @type {Whole} */ network, /** @type {ArrayLike<number>} */ row) {
    const { standardization, inputScale } = network;
    if (standardization) {
      const { mean, scale } = standardization;
      return Float64Array.from(row, (value, i) => (value - mean[i]) * scale[i]);
    }
    return Float64Array.from(row, (value) => value * inputScale);
  }

  /**
   * Return what each layer computes for a row of unscaled inputs.
   * @param {Whole} network
   * @param {ArrayLike<number>} row
   * @returns {Pass}
   */
  function forward(network, row) {
    let out = scaled(network, row);
    const steps = network.links.map((link) => {
      const inp = out, { forward: activate } = ACTIVATIONS[link.layer.activation];
      const { sums, taps } = LAYERS[link.layer.kind].forward(link, inp);
      out = link.layer.activation === "identity" ? sums : sums.map(activate);
      return { inp, sums, out, taps };
    });
    return { steps, logits: out, outputs: OUTPUTS[network.output](out) };
  }

  /**
   * Return the gradient of `sum of dlogits * logits` with respect to the scaled inputs.
   * @param {Whole} network
   * @param {Pass} pass
   * @param {Float64Array} dlogits
   * @returns {Float64Array}
   */
  function backward(network, pass, dlogits) {
    let dout = dlogits;
    for (let number = network.links.length - 1; number >= 0; number--) {
      const link = network.links[number], step = pass.steps[number], { derivative } = ACTIVATIONS[link.layer.activation];
      const dsums = dout.map((value, i) => value * derivative(step.sums[i], step.out[i]));
      dout = LAYERS[link.layer.kind].backward(link, dsums, step);
    }
    return dout;
  }

  /**
   * Return the contribution of each input to the logit of one class minus that of another, as
   * fastnn.explain(...).contributions: input times gradient. With activations that are straight lines on each side of 0,
   * such as ReLU, the contributions of inputs and biases add up to the difference.
   * @param {Whole} network
   * @param {Pass} pass
   * @param {number} label  the class that positive contributions speak for
   * @param {number} rival  the class that negative ones speak for; -1 for none
   * @returns {Float64Array}
   */
  function contributions(network, pass, label, rival) {
    const dlogits = new Float64Array(pass.logits.length);
    if (dlogits.length === 1) { // one logistic output z is the softmax of the logits 0 and z
      dlogits[0] = Number(label === 1) - Number(rival === 1);
    } else {
      dlogits[label] = 1;
      if (rival >= 0) dlogits[rival] = -1;
    }
    const { inp } = pass.steps[0];
    return backward(network, pass, dlogits).map((slope, i) => slope * inp[i]);
  }

  /** Return the probability of each class. A single logistic output gives those of two classes. */
  function probabilities(/** @type {Float64Array} */ outputs, /** @type {number} */ classCount) {
    if (outputs.length > 1) return outputs;
    return classCount === 1 ? Float64Array.of(1) : Float64Array.of(1 - outputs[0], outputs[0]);
  }

  /** Return the places of the largest and the second largest number, the first of equal ones; -1 if there is none. */
  function firstTwo(/** @type {ArrayLike<number>} */ values) {
    const order = Array.from(values, (_, index) => index).sort((a, b) => values[b] - values[a] || a - b);
    return [order[0], order.length > 1 ? order[1] : -1];
  }

  /**
   * Hide every patch of an image in turn; yield after each row of patches. The result, `value` of the last step, has the
   * mean drop of the probability of a class over the patches that hide a pixel: `by_pixel` of fastnn.evaluation's
   * `occlusion`.
   * @param {Whole} network
   * @param {ArrayLike<number>} row  an image of one channel
   * @param {number} label
   * @param {{shape: number[], classCount: number, background?: number, patch?: number, step?: number}} settings
   *   shape: height and width
   * @returns {Generator<number, {probability: number, byPixel: Float64Array}>} yields the fraction that is done
   */
  function* occlusion(network, row, label, { shape: [height, width], classCount, background = 0, patch = 5, step = 1 }) {
    const size = [Math.min(patch, height), Math.min(patch, width)];
    const probabilityOf = (/** @type {ArrayLike<number>} */ image) =>
      probabilities(forward(network, image).outputs, classCount)[label];
    const probability = probabilityOf(row), totals = new Float64Array(row.length), counts = new Float64Array(row.length);
    const tops = starts(height, size[0], step), lefts = starts(width, size[1], step);
    for (let number = 0; number < tops.length; number++) {
      for (const left of lefts) {
        const hidden = Float64Array.from(row), cells = [];
        for (let i = tops[number]; i < tops[number] + size[0]; i++) {
          for (let j = left; j < left + size[1]; j++) cells.push(i * width + j);
        }
        for (const cell of cells) hidden[cell] = background;
        const drop = probability - probabilityOf(hidden);
        for (const cell of cells) {
          totals[cell] += drop;
          counts[cell] += 1;
        }
      }
      yield (number + 1) / tops.length;
    }
    return { probability, byPixel: totals.map((total, cell) => total / counts[cell]) };
  }

  /** Return where patches of a length begin: every `step` pixels, and at the end. */
  function starts(/** @type {number} */ size, /** @type {number} */ length, /** @type {number} */ step) {
    const found = [];
    for (let start = 0; start < size - length; start += step) found.push(start);
    return [...found, size - length];
  }

  // --- Arrays in a page ----------------------------------------------------------------------------------------------
  /** Return the number that a float16 has in these 16 bits. @param {number} bits */
  function halfToNumber(bits) {
    const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
    if (exponent === 0) return sign * fraction * 2 ** -24;
    if (exponent === 31) return fraction ? NaN : sign * Infinity;
    return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  }

  /**
   * Return the numbers of an array in base64, little-endian.
   * @param {{type: string, data: string, scales?: string}} stored
   *   type: "uint8", "float64", "float32", "float16" or "int8"; the last axis of "int8" has a float32 scale for each unit
   * @returns {Uint8Array | Float32Array | Float64Array}
   */
  function decode({ type, data, scales }) {
    const text = atob(data), bytes = new Uint8Array(text.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
    switch (type) {
      case "uint8": return bytes;
      case "float64": return new Float64Array(bytes.buffer);
      case "float32": return new Float32Array(bytes.buffer);
      case "float16": return Float32Array.from(new Uint16Array(bytes.buffer), halfToNumber);
      case "int8": {
        const units = decode({ type: "float32", data: scales });
        return Float32Array.from(new Int8Array(bytes.buffer), (value, i) => value * units[i % units.length]);
      }
      default: throw new Error(`an array is ${type}, which this page cannot read`);
    }
  }

  return {
    create, forward, backward, contributions, probabilities, firstTwo, occlusion, decode, normalCdf,
  };
})();
