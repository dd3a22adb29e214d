"use strict";

/** The page of a trained network: what is shown, its network's answer, and what every layer makes of it. */
const Page = (() => {
  const MOST_LISTED = 8; // errors
  const MOST_CLASSES = 30; // of a confusion matrix
  const MOST_BARS = 4096;
  const SLICE = 24; // milliseconds of work between two frames
  const { element, format, percent } = Figures;
  const find = (/** @type {string} */ id) => document.getElementById(id);
  /** Change the text of an element: a screen reader speaks a status only if it is another one. */
  const put = (/** @type {string} */ id, /** @type {string} */ text) => {
    if (find(id).textContent !== text) find(id).textContent = text;
  };
  const counted = (/** @type {number} */ count) => count.toLocaleString("en-US");

  class Show {
    /** @param {Object<string, any>} content  what fastnn.pages.page has written */
    constructor(content) {
      this.content = content;
      this.classes = content.classes;
      const { weights, biases, statistics, standardization } = content.network;
      const decode = (/** @type {any[]} */ arrays) => arrays.map(Network.decode);
      this.network = Network.create(
        { ...content.network, standardization: standardization && {
          mean: Network.decode(standardization.mean), scale: Network.decode(standardization.scale) } },
        { weights: decode(weights), biases: decode(biases), statistics: decode(statistics) });
      this.size = content.shape[0] * content.shape[1];
      this.samples = this.readSamples();
      this.shown = this.samples; // those of the chosen error, or all
      this.makeTry();
      this.makeWhy();
      this.makeErrors();
      this.makeLayers();
      this.makeAbout();
      if (this.samples.length) this.showSample(this.samples[0]);
    }

    /** Return the test images of the page, each with the network's answer. */
    readSamples() {
      const { images, rows, labels } = this.content.samples, pixels = Network.decode(images);
      return rows.map((/** @type {number} */ row, /** @type {number} */ index) => {
        const inputs = pixels.subarray(index * this.size, (index + 1) * this.size);
        const values = this.probabilitiesOf(Network.forward(this.network, inputs));
        const [prediction] = Network.firstTwo(values);
        return { row, label: labels[index], inputs, prediction, probability: values[prediction] };
      });
    }

    probabilitiesOf(/** @type {any} */ pass) {
      return Network.probabilities(pass.outputs, this.classes.length);
    }

    // --- The pad and the answer --------------------------------------------------------------------------------------
    makeTry() {
      this.probabilities = new Figures.Probabilities(find("probabilities"), {
        title: "Probability of each class", names: this.classes,
        hint: (name) => `show the pixels that speak for ${name}`, onChoose: (index) => this.chooseLabel(index),
      });
      find("previous").addEventListener("click", () => this.step(-1));
      find("next").addEventListener("click", () => this.step(1));
      for (const id of ["previous", "next"]) find(id).disabled = !this.samples.length;
      if (!find("pad")) return;
      const status = find("pad-status");
      this.pad = Drawing.attach(find("pad"), {
        onChange: () => this.answerDrawing(),
        onStatus: (text) => {
          status.textContent = text;
          if (this.pad) find("erase").setAttribute("aria-pressed", String(this.pad.erasing));
        },
      });
      find("clear").addEventListener("click", () => this.pad.clear());
      find("undo").addEventListener("click", () => this.pad.undo());
      find("erase").addEventListener("click", () => { this.pad.erasing = !this.pad.erasing; });
      find("file").addEventListener("change", (event) => {
        const [file] = event.target.files;
        if (file) this.pad.open(file);
        event.target.value = "";
      });
    }

    /** Answer the drawing at once, but leave twice the time that an answer takes to the strokes. */
    answerDrawing() {
      clearTimeout(this.timer);
      this.timer = 0;
      const wait = (this.freeAt || 0) - performance.now();
      if (wait > 0) {
        this.timer = setTimeout(() => this.answerDrawing(), wait);
        return;
      }
      const began = performance.now();
      this.showDrawing();
      this.freeAt = performance.now() + 2 * (performance.now() - began);
    }

    showDrawing() {
      if (this.pad.isEmpty) {
        this.say("The pad is empty.", "Draw, or choose a test image.");
        return;
      }
      let row;
      try {
        row = Pictures.rowFor({ imageShape: this.content.shape, pixels: this.content.pixels }, this.pad.pixels());
      } catch (error) {
        if (!(error instanceof Pictures.DataError)) throw error;
        this.say("There is nothing to read yet.", error.message);
        return;
      }
      this.showRow(row, null);
    }

    /** Show that there is no answer, and the reason. */
    say(/** @type {string} */ answer, /** @type {string} */ reason) {
      this.sample = null;
      put("answer", answer);
      put("source", reason);
      find("source").classList.remove("wrong");
      find("judged").hidden = true;
      this.markSample();
      this.showParts(false);
    }

    /** Show or hide what belongs to an answer. */
    showParts(/** @type {boolean} */ isAnswer) {
      for (const id of ["probabilities", "why", "inside"]) find(id).hidden = !isAnswer;
    }

    /** Mark the test image that is shown. */
    markSample() {
      for (const { sample, button } of this.buttons) button.setAttribute("aria-pressed", String(sample === this.sample));
    }

    /** Show the test image before or after the current one, among those of the chosen error. */
    step(/** @type {number} */ by) {
      const at = this.shown.indexOf(this.sample || this.lastSample), count = this.shown.length;
      if (count) this.showSample(this.shown[at < 0 ? 0 : (at + by + count) % count]);
    }

    showSample(/** @type {any} */ sample) {
      this.showRow(sample.inputs, sample);
    }

    /** Run the network on a row of inputs, and show what comes of it. `sample`: the test image, or null. */
    showRow(/** @type {ArrayLike<number>} */ row, /** @type {any} */ sample) {
      if (sample) { // no answer to an earlier drawing comes after it
        clearTimeout(this.timer);
        this.timer = 0;
        this.lastSample = sample;
        if (this.pad) put("pad-status", "");
      }
      this.row = row;
      this.sample = sample;
      this.pass = Network.forward(this.network, row);
      const values = this.probabilitiesOf(this.pass), [first, second] = Network.firstTwo(values);
      this.values = values;
      this.prediction = first;
      this.label = first;
      this.rival = sample && sample.label !== first ? sample.label : second;
      this.showParts(true);
      this.showAnswer();
      this.showWhy();
      this.drawLayers();
      this.markSample();
    }

    showAnswer() {
      const { threshold } = this.content, probability = this.values[this.prediction], name = this.classes[this.prediction];
      this.isUnknown = threshold !== null && probability < threshold;
      put("answer", this.isUnknown ? "I do not know." : `Answer: ${name} (${percent(probability)}).`);
      const parts = [];
      if (this.isUnknown) {
        parts.push(`The most probable class, ${name}, has ${percent(probability)}; the threshold is ${percent(threshold)}.`);
      }
      if (this.sample) {
        const { label, row } = this.sample, place = this.shown.indexOf(this.sample);
        const which = place < 0 ? "A test image" : `Test image ${place + 1} of ${this.shown.length}`;
        const verdict = label === this.prediction ? "correct" : "wrong";
        parts.push(`${which}, row ${counted(row)} of the data: its label is ${this.classes[label]}, so the network is ${verdict}.`);
      }
      if (!this.sample) parts.push("The answer to your drawing.");
      put("source", parts.join(" "));
      find("source").classList.toggle("wrong", Boolean(this.sample) && this.sample.label !== this.prediction);
      find("judged").hidden = false;
      // What has been read, beside the answer: the pad may have another picture.
      Figures.thumbnail(/** @type {any} */ (find("judged")), this.row, ...this.content.shape, this.content.pixels);
      this.drawProbabilities();
    }

    drawProbabilities() {
      this.probabilities.draw(this.values, {
        logits: this.pass.logits.length === this.classes.length ? this.pass.logits : undefined,
        chosen: this.label, answer: this.isUnknown ? -1 : this.prediction,
      });
    }

    // --- Why ---------------------------------------------------------------------------------------------------------
    makeWhy() {
      for (const id of ["label", "rival"]) {
        find(id).append(...this.classes.map((/** @type {string} */ name, /** @type {number} */ index) =>
          element("option", { value: String(index), textContent: name })));
        find(id).addEventListener("change", () => {
          this[id] = Number(find(id).value);
          if (this.label === this.rival) this[id === "label" ? "rival" : "label"] = this.otherThan(this[id]);
          this.drawProbabilities();
          this.showWhy();
        });
      }
      find("measure").addEventListener("change", () => this.showWhy());
      this.seen = new Figures.Images(find("seen"), {
        title: "What the network sees", note: "The inputs, before they are scaled.", colours: "ink", quantity: "input",
        size: 252 });
      this.speaking = new Figures.Images(find("speaking"), { title: "", note: " ", quantity: "number", size: 252 });
    }

    /** Return the most probable class besides one. */
    otherThan(/** @type {number} */ index) {
      const [first, second] = Network.firstTwo(this.values);
      return first === index ? second : first;
    }

    chooseLabel(/** @type {number} */ index) {
      this.label = index;
      this.rival = index === this.prediction && this.sample && this.sample.label !== index
        ? this.sample.label : this.otherThan(index);
      this.drawProbabilities();
      this.showWhy();
    }

    showWhy() {
      const [height, width] = this.content.shape, [low, high] = [...this.content.pixels].sort((a, b) => a - b);
      this.seen.draw({ values: this.row, count: 1, height, width, low, high });
      this.seen.rename(`What the network sees: ${height} x ${width} numbers`);
      find("label").value = String(this.label);
      find("rival").value = String(this.rival);
      const isOcclusion = find("measure").value === "occlusion";
      find("rival").disabled = isOcclusion || this.rival < 0;
      cancelAnimationFrame(this.frame);
      if (isOcclusion) this.startOcclusion();
      else this.drawContributions();
    }

    drawContributions() {
      const [height, width] = this.content.shape, [name, rival] = [this.label, this.rival].map((each) => this.classes[each]);
      const values = Network.contributions(this.network, this.pass, this.label, this.rival);
      this.speaking.options.quantity = "contribution";
      this.speaking.rename(
        rival === undefined ? `Pixels that speak for ${name}` : `Pixels that speak for ${name}, against ${rival}`,
        `Blue: for ${name}. Orange: ${rival === undefined ? "against it" : `for ${rival}`}. A pixel adds its input times the ` +
        `gradient of the score (logit) of ${name}${rival === undefined ? "" : ` minus that of ${rival}`}. ` +
        "The line is the outline of the ink.");
      this.speaking.draw({ values, count: 1, height, width, outline: this.ink() });
    }

    /** Return whether each pixel of the image is nearer to full ink than to the background. */
    ink() {
      const [background, ink] = this.content.pixels, middle = (background + ink) / 2;
      return Array.from(this.row, (value) => (value > middle) === (ink > background));
    }

    /** Hide patch after patch, some of them before each frame, and draw the drops of the probability at the end. */
    startOcclusion() {
      const [height, width] = this.content.shape, name = this.classes[this.label];
      const work = Network.occlusion(this.network, this.row, this.label, {
        shape: this.content.shape, classCount: this.classes.length, background: this.content.pixels[0] });
      this.speaking.options.quantity = "drop of the probability";
      const run = () => {
        for (const end = performance.now() + SLICE; performance.now() < end;) {
          const { value, done } = work.next();
          if (done) {
            this.speaking.rename(`Pixels that ${name} needs`,
              `Blue: the probability of ${name} drops if a patch of 5 x 5 pixels hides them. Orange: it rises. ` +
              "The line is the outline of the ink.");
            this.speaking.draw({
              values: value.byPixel, count: 1, height, width, limit: Figures.magnitudeOf(value.byPixel, 1), outline: this.ink() });
            return;
          }
          this.speaking.rename(`Pixels that ${name} needs`, `Hiding patches: ${Math.round(100 * value)} %`);
        }
        this.frame = requestAnimationFrame(run);
      };
      run();
    }

    // --- Errors and test images --------------------------------------------------------------------------------------
    makeErrors() {
      const { data, samples, confusion } = this.content;
      const numbers = {
        accuracy: `${(100 * data.accuracy).toFixed(2)} %`, "wrong": `${counted(samples.mistakes)} of ${counted(data.count)}`,
        loss: data.loss === null ? "not finite" : data.loss.toFixed(4),
      };
      find("numbers").append(...Object.entries(numbers).map(([term, number]) =>
        element("div", {}, element("dt", { textContent: term }), element("dd", { textContent: number }))));
      this.errors = confusion.flatMap((/** @type {number[]} */ counts, /** @type {number} */ label) =>
        counts.map((count, prediction) => ({ label, prediction, count, of: counts.reduce((a, b) => a + b, 0) })))
        .filter(({ label, prediction, count }) => count && label !== prediction)
        .sort((/** @type {any} */ a, /** @type {any} */ b) => b.count - a.count);
      const all = element("button", { type: "button", textContent: "All images" });
      all.addEventListener("click", () => this.filter(null));
      this.errorButtons = [{ error: null, button: all }];
      for (const error of this.errors.slice(0, MOST_LISTED)) {
        const button = element("button", { type: "button", textContent: `${this.errorName(error)}: ${counted(error.count)}` });
        button.addEventListener("click", () => this.filter(error));
        this.errorButtons.push({ error, button });
      }
      if (!this.errors.length) find("errors-heading").textContent = "There are no errors in these data.";
      find("errors").append(...this.errorButtons.map(({ button }) => element("li", {}, button)));
      this.makeImages();
      this.makeConfusion();
      this.filter(null);
    }

    errorName(/** @type {{label: number, prediction: number}} */ { label, prediction }) {
      return `${this.classes[label]} read as ${this.classes[prediction]}`;
    }

    makeImages() {
      const [height, width] = this.content.shape;
      this.buttons = this.samples.map((sample) => {
        const canvas = element("canvas"), isWrong = sample.label !== sample.prediction;
        canvas.setAttribute("aria-hidden", "true");
        const button = element("button", { type: "button" }, canvas, `label ${this.classes[sample.label]}`, element("br"),
          element("span", { className: isWrong ? "wrong" : "", textContent: `read as ${this.classes[sample.prediction]}` }),
          element("br"), percent(sample.probability));
        button.addEventListener("click", () => {
          this.showSample(sample);
          find("judged").parentElement.scrollIntoView({ block: "nearest" });
        });
        return { sample, button, canvas, item: element("li", {}, button) };
      });
      for (const { sample, canvas } of this.buttons) {
        Figures.thumbnail(canvas, sample.inputs, height, width, this.content.pixels);
      }
      find("images").append(...this.buttons.map(({ item }) => item));
    }

    /** Show the images of one error, or all. */
    filter(/** @type {any} */ error) {
      const belongs = (/** @type {any} */ sample) =>
        !error || (sample.label === error.label && sample.prediction === error.prediction);
      this.shown = this.samples.filter(belongs);
      for (const { sample, item } of this.buttons) item.hidden = !belongs(sample);
      for (const each of this.errorButtons) each.button.setAttribute("aria-pressed", String(each.error === error));
      const { mistakes } = this.content.samples, wrong = this.samples.filter(({ label, prediction }) => label !== prediction).length;
      find("images-heading").textContent = error ? this.errorName(error) : "Test images, worst mistakes first";
      find("images-note").textContent = error
        ? `${counted(error.count)} of the ${counted(error.of)} samples of ${this.classes[error.label]}; ` +
          `${this.shown.length ? `${this.shown.length} of them ${this.shown.length === 1 ? "is" : "are"}` : "none of them is"} on this page.`
        : `${wrong} of the ${counted(mistakes)} mistakes, two of each frequent error among them, sorted by the probability of the answer minus that of the label; ` +
          `then ${this.samples.length - wrong} images that it reads correctly. Choose one to see why.`;
      if (error && this.shown.length) this.showSample(this.shown[0]);
      else if (this.sample) this.showAnswer();
    }

    makeConfusion() {
      const { confusion } = this.content, count = this.classes.length;
      if (count > MOST_CLASSES) {
        find("confusion").append(element("p", { textContent: `A matrix of ${count} classes is too large for this page.` }));
        return;
      }
      const header = (/** @type {string} */ text, /** @type {string} */ scope) => {
        const cell = element("th", { textContent: text });
        cell.scope = scope;
        return cell;
      };
      const most = { right: 1, wrong: 1 };
      confusion.forEach((/** @type {number[]} */ counts, /** @type {number} */ label) => counts.forEach((each, prediction) => {
        const kind = label === prediction ? "right" : "wrong";
        most[kind] = Math.max(most[kind], each);
      }));
      const rows = confusion.map((/** @type {number[]} */ counts, /** @type {number} */ label) => {
        const total = counts.reduce((a, b) => a + b, 0), recall = total ? percent(counts[label] / total) : "none";
        const cells = counts.map((each, prediction) => this.confusionCell(label, prediction, each, most));
        return element("tr", {}, header(this.classes[label], "row"), ...cells, element("td", { className: "recall", textContent: recall }));
      });
      const head = element("thead", {}, element("tr", {}, element("td"), ...this.classes.map((name) => header(name, "col")),
        header("recall", "col")));
      const table = element("table", {}, head, element("tbody", {}, ...rows));
      table.setAttribute("aria-labelledby", "confusion-heading");
      find("confusion").append(table);
    }

    confusionCell(label, prediction, count, most) {
      const isRight = label === prediction, share = count / (isRight ? most.right : most.wrong);
      const cell = element("td", { className: !count ? "" : isRight ? "right-answer" : "wrong-answer" });
      cell.style.setProperty("--share", `${8 + 40 * share}%`);
      const error = this.errors.find((each) => each.label === label && each.prediction === prediction);
      if (!error || !this.samples.some((each) => each.label === label && each.prediction === prediction)) {
        cell.textContent = counted(count);
        return cell;
      }
      const button = element("button", { type: "button", textContent: counted(count) });
      button.setAttribute("aria-label", `${counted(count)}: ${this.errorName(error)}`);
      button.addEventListener("click", () => {
        this.filter(error);
        find("images-heading").scrollIntoView({ block: "start" });
      });
      this.errorButtons.push({ error, button });
      cell.append(button);
      return cell;
    }

    // --- Layers ------------------------------------------------------------------------------------------------------
    makeLayers() {
      const host = find("layers"), { links } = this.network, [first] = links;
      const item = (/** @type {string} */ unit) => (/** @type {number} */ index) => `${unit} ${index}`;
      this.layerFigures = links.map(({ shape }, number) => {
        const { title, unit } = this.content.layers[number], isLast = number === links.length - 1;
        const weights = number === 0 ? this.makeWeights(host, first, unit) : null;
        const options = { title: isLast ? `${title}: the logits` : title, quantity: isLast ? "logit" : "output", size: 72,
          note: weights ? `Choose a ${unit} to mark its weights.` : isLast && shape[0] === this.classes.length
            ? "The scores of the classes, in the order of the list above. The probabilities are computed from them." : undefined,
          onPick: weights ? (/** @type {number} */ index) => weights.choose(index) : undefined,
          item: isLast && shape.length === 1 && shape[0] === this.classes.length
            ? (/** @type {number} */ index) => `class ${this.classes[index]}` : item(unit) };
        if (shape.length === 3) return new Figures.Images(host, options);
        return shape[0] <= MOST_BARS ? new Figures.Bars(host, options) : null;
      });
    }

    /** Draw what the first layer looks for: the weights into its units, or its filters. Null if it is another layer. */
    makeWeights(host, { layer, weight }, unit) {
      if (layer.kind !== "conv2d" && layer.kind !== "dense") return null;
      const [height, width] = layer.kind === "conv2d" ? layer.kernel : this.content.shape;
      const count = weight.length / (height * width);
      const figure = new Figures.Images(host, {
        title: layer.kind === "conv2d" ? `The ${count} filters of layer 1` : `The weights into the ${count} units of layer 1`,
        note: "A unit responds most where inputs are large under blue weights and small under orange ones.",
        quantity: "weight", size: layer.kind === "conv2d" ? 72 : 56, item: (index) => `${unit} ${index}`,
      });
      figure.draw({ values: weight, count, height, width, pixelStride: count,
        starts: Int32Array.from({ length: count }, (_, index) => index) });
      return figure;
    }

    drawLayers() {
      this.layerFigures.forEach((figure, number) => {
        const { out } = this.pass.steps[number], { shape } = this.network.links[number];
        if (figure instanceof Figures.Images) {
          figure.draw({ values: out, count: shape[0], height: shape[1], width: shape[2], limit: Figures.magnitudeOf(out, 1) });
        } else if (figure) {
          figure.draw(out);
        }
      });
    }

    makeAbout() {
      const { data, stored, title, threshold } = this.content, change = 100 * (stored.accuracy - stored.modelAccuracy);
      const rounded = stored.type === "float32" ? "The weights are stored as float32." :
        `The weights are stored as ${stored.type}. That changes the accuracy by ${format(Number(change.toFixed(2)))} points, from ` +
        `${(100 * stored.modelAccuracy).toFixed(2)} % to ${(100 * stored.accuracy).toFixed(2)} %.`;
      const known = threshold === null ? "The network has no threshold: it answers for every image, also for one that is none of its classes."
        : `Below a probability of ${percent(threshold)}, the answer is "I do not know".`;
      find("about").textContent = `The network is ${title}. Accuracy and errors are measured on ${data.name}, ` +
        `${counted(data.count)} samples. ${rounded} ${known} fastnn wrote this page.`;
    }
  }

  return { Show, page: new Show(JSON.parse(find("content").textContent)) };
})();
