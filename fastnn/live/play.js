"use strict";

/** The live page: shows what the server sends of one run or two, and sends what its visitor wants. */
const Play = (() => {
  const { element } = Figures;
  const RETRY_MS = 1000;
  const MOST_IN_TABLE = 30; // classes; a larger confusion matrix is an image
  const SERIES = ["a", "b"];
  const PLAIN_FIELDS = [
    ["layers", "Hidden layers", "such as 128 64, or conv:6x5,pool:2,120", "wide-field"],
    ["activation", "Activation"], ["optimizer", "Optimizer"],
    ["learning_rate", "Learning rate", "usual"], ["schedule", "Schedule", "such as step:0.5,10"],
    ["batch_size", "Batch size", "or full"], ["epochs", "Epochs"], ["dropout", "Dropout"], ["l2", "L2"],
    ["augment", "Augmentation", "none; such as shift=2"], ["early_stopping", "Patience", "run all epochs"], ["seed", "Seed"],
  ];
  const PACES = [
    ["Full speed", () => null], ["1 epoch a second", (run) => Math.max(1, run.batches)],
    ["100 batches a second", () => 100], ["10 batches a second", () => 10], ["1 batch a second", () => 1],
  ];

  /** What is shown of a run in numbers, so wide that nothing moves when they change. */
  const VALUES = [
    ["loss", "Loss"], ["accuracy", "Accuracy"], ["validation", "Validation accuracy"], ["speed", "Samples a second"],
  ];

  const token = location.hash.slice(1);
  const byId = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id));
  /** @type {Map<number, Column>} the columns of the page by the place of their run */
  const columns = new Map();
  const charts = [
    new Charts.Lines(byId("curves"), { title: "Loss after each epoch", isFraction: false }),
    new Charts.Lines(byId("curves"), { title: "Accuracy after each epoch", isFraction: true }),
  ];
  let form = null;
  let newest = null;
  let frame = 0;
  /**
   * What the networks are asked: {drawing: number[]}, or {sample, data} with the digest of the validation data that have
   * the sample; null for nothing. It outlives the runs: one that starts again, or is added, is asked the same.
   */
  let question = null;
  let isRunAwaited = false; // whether the second run was asked for here
  let pad = null;

  // ---- the server

  /** Send a request with the token; resolves to the answer's JSON, throws an Error with the reason of a refusal. */
  async function ask(path, body) {
    const headers = { Authorization: `Bearer ${token}` };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const options = { method: body === undefined ? "GET" : "POST", headers, body: body && JSON.stringify(body), cache: "no-store" };
    const response = await fetch(path, options);
    const answer = await response.json();
    if (!response.ok || answer.error) throw new Error(answer.error);
    return answer;
  }

  function tell(text, failed = false) {
    const line = byId("connection");
    if (line.textContent !== text) line.textContent = text;
    line.classList.toggle("failed", failed);
  }

  /** Read pictures for as long as the page is open. */
  async function listen() {
    for (;;) {
      try {
        const response = await fetch("/events", { headers: { Authorization: `Bearer ${token}` }, cache: "no-store" });
        if (response.status === 403) {
          tell("This address has no valid token. Open the whole address that fastnn printed.", true);
          return;
        }
        if (!response.ok || !response.body) throw new Error("no stream");
        tell("Connected.");
        await readEvents(response.body);
      } catch {
        // The server has ended, or starts again: the next attempt tells.
      }
      tell("fastnn does not answer: it has ended, or is busy. Trying again ...", true);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  /** @param {ReadableStream<Uint8Array>} body */
  async function readEvents(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let parts = [];
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      parts.push(value);
      if (!value.includes("\n")) continue;
      const events = parts.join("").split("\n\n");
      parts = [events.pop()];
      for (const event of events) if (event.startsWith("data: ")) receive(JSON.parse(event.slice(6)));
    }
  }

  /** Keep a picture, and draw it in the next frame. Of a curve, only the new points come. */
  function receive(picture) {
    form = picture.form;
    newest = picture;
    picture.runs.forEach((run, place) => {
      const old = columns.get(place), { start, points } = run.curve;
      const before = old && old.number === run.number ? old.points : [];
      run.points = start ? before.slice(0, start).concat(points) : points;
      if (old) [old.number, old.points] = [run.number, run.points];
    });
    frame ||= requestAnimationFrame(draw);
  }

  // ---- one run

  /** The controls, settings, figures and code of a run. */
  class Column {
    /** @param {number} place */
    constructor(place) {
      this.place = place;
      this.number = -1;
      this.points = [];
      this.shownSettings = -1;
      this.asking = false;
      this.askAgain = false;
      this.figures = new Map();
      const name = "AB"[place], css = SERIES[place];
      const title = (text) => element("h3", { className: `run-name ${css}`, textContent: `${text} ${name}` });
      this.network = element("p", { className: "network" });
      this.state = element("p", { className: "state" });
      this.values = {};
      const cells = VALUES.map(([key, text]) => {
        this.values[key] = element("dd", { textContent: "\u2013" });
        this.values[key].dataset.key = key;
        return element("div", {}, element("dt", { textContent: text }), this.values[key]);
      });
      this.error = element("p", { className: "error" });
      this.error.setAttribute("role", "alert");
      this.buttons = {
        train: this.button("Train", () => this.command({ command: "train" }), "main"),
        pause: this.button("Pause", () => this.command({ command: "pause" })),
        step: this.button("One step", () => this.command({ command: "step" })),
        epoch: this.button("One epoch", () => this.command({ command: "epoch" })),
        again: this.button("Start again", () => this.command({ command: "again" })),
        stop: this.button("Stop", () => this.command({ command: "stop" })),
      };
      this.buttons.again.title = "from the same initial weights";
      this.buttons.stop.title = "after this epoch";
      for (const [key, button] of Object.entries(this.buttons)) button.dataset.command = key;
      this.pace = element("select", { ariaLabel: `Speed of run ${name}` },
        ...PACES.map(([text], index) => element("option", { value: String(index), textContent: text })));
      this.pace.addEventListener("change", () => this.setPace());
      this.remove = this.button("Remove", () => this.command({ command: "remove" }));
      this.remove.hidden = place === 0;
      this.settings = this.makeForm(name);
      this.findings = element("ul", { className: "findings" });
      this.runs = element("section", { className: css, ariaLabel: `Run ${name}` }, title("Run"), this.network, this.state,
        element("dl", { className: "numbers" }, ...cells),
        element("div", { className: "buttons" }, ...Object.values(this.buttons), this.pace, this.remove), this.error,
        element("h4", { textContent: "Diagnosis" }), this.findings, this.settings);
      this.noFindings = element("p", { className: "soft", textContent: "No fault found so far." });
      this.findings.before(this.noFindings);
      byId("runs").append(this.runs);

      this.answers = element("section", { className: css, ariaLabel: `Answer of run ${name}` }, title("Answer of run"));
      this.answerText = element("p", { className: "soft" });
      this.answerHost = element("div");
      this.formula = this.makeFormula(name);
      this.answers.append(this.answerText, this.answerHost, this.formula);
      byId("answers").append(this.answers);

      this.inside = element("section", { className: css, ariaLabel: `Inside run ${name}` }, title("Inside run"));
      this.name = name;
      this.hosts = { weights: element("div"), confusion: element("div") };
      this.mistakesTitle = element("h4", { textContent: "Worst mistakes" });
      this.mistakes = element("ul", { className: "mistakes" });
      this.inside.append(this.hosts.weights, this.hosts.confusion, this.mistakesTitle, this.mistakes);
      byId("inside").append(this.inside);

      this.code = element("section", { className: css, ariaLabel: `Code of run ${name}` }, title("Code of run"));
      this.codeOut = element("div");
      this.code.append(this.button("Show me the code", () => this.showCode()), this.codeOut);
      byId("code").append(this.code);
    }

    button(text, onClick, className = "") {
      const made = element("button", { type: "button", textContent: text, className });
      made.addEventListener("click", onClick);
      return made;
    }

    /** Bring the run into sight, and give it the focus. */
    show() {
      this.runs.tabIndex = -1;
      this.runs.focus({ preventScroll: true });
      this.runs.scrollIntoView({ block: "start" });
    }

    /** Remove the column from the page. */
    close() {
      for (const part of [this.runs, this.answers, this.inside, this.code]) part.remove();
      for (const figure of this.figures.values()) figure.remove?.();
    }

    /** Send a command; resolves to whether it was done. The reason of a refusal stands beside the control. */
    async command(request, reason = this.error) {
      try {
        await ask("/command", { run: this.place, ...request });
        reason.textContent = "";
        return true;
      } catch (error) {
        reason.textContent = error.message;
        return false;
      }
    }

    setPace() {
      const [, paceOf] = PACES[Number(this.pace.value)];
      this.command({ command: "pace", batches_per_second: paceOf(this.run) });
    }

    /** Show the pace that this browser or another one has set. */
    showPace(run) {
      const at = run.pace === null ? 0 : PACES.findIndex(([, paceOf], index) => index > 1 && paceOf(run) === run.pace);
      const value = String(at < 0 ? 1 : at);
      if (this.pace.value !== value && document.activeElement !== this.pace) this.pace.value = value;
    }

    // ---- settings

    makeForm(name) {
      this.fields = {};
      this.recipe = element("select", {});
      this.recipe.addEventListener("change", () => this.plan({ recipe: this.recipe.value || null }));
      const labels = [element("label", { className: "wide-field" }, "Start from", this.recipe)];
      for (const [key, text, hint = "", css = ""] of PLAIN_FIELDS) {
        const isChoice = ["activation", "optimizer", "schedule"].includes(key);
        const field = element("input", { type: "text", placeholder: hint, autocomplete: "off", spellcheck: false });
        field.name = key;
        if (isChoice) field.setAttribute("list", `${key}-names`);
        this.fields[key] = field;
        labels.push(element("label", { className: css }, text, field));
      }
      const use = element("button", { type: "submit", textContent: "Use these settings" });
      this.settingsError = element("p", { className: "error wide-field" });
      this.settingsError.setAttribute("role", "alert");
      const made = element("form", { className: "settings", ariaLabel: `Settings of run ${name}` }, ...labels,
        this.settingsError, element("div", { className: "wide-field buttons" }, use));
      made.addEventListener("submit", (event) => {
        event.preventDefault();
        const settings = { recipe: this.recipe.value || null };
        for (const [key, field] of Object.entries(this.fields)) {
          if (!field.disabled) settings[key] = field.value.trim() || (key === "layers" ? "" : null);
        }
        this.plan(settings);
      });
      return element("details", { open: this.place === 1 }, element("summary", { textContent: `Settings of run ${name}` }), made);
    }

    async plan(settings) {
      this.state.textContent = "Preparing ...";
      const isDone = await this.command({ command: "plan", settings }, this.settingsError);
      if (!isDone && this.run) setText(this.state, this.stateText(this.run)); // the run before goes on
    }

    /** Fill the fields with the settings of a run that is new here. */
    showSettings(run) {
      this.settings.hidden = !run.settings;
      if (!run.settings || this.shownSettings === run.number) return;
      this.shownSettings = run.number;
      const options = form.recipes.map(({ name, title }) => element("option", { value: name, textContent: `${name}: ${title}` }));
      if (form.files) options.push(element("option", { value: "", textContent: "the files of --data" }));
      this.recipe.replaceChildren(...options);
      this.recipe.value = run.settings.recipe ?? "";
      for (const [key, field] of Object.entries(this.fields)) {
        field.value = run.settings[key] ?? "";
        field.disabled = run.has_fixed_network && (key === "layers" || key === "activation");
      }
    }

    // ---- the picture

    draw(run) {
      this.run = run;
      const began = run.status !== "waiting", ended = run.status === "ended", isOwn = Boolean(run.settings);
      const usable = {
        train: run.status === "paused" || (began && !ended && run.paused), pause: began && !ended && !run.paused,
        step: run.status === "paused", epoch: run.status === "paused",
        again: isOwn && began && (run.epoch > 1 || run.batch > 0 || ended), stop: began && !ended && !run.stopping,
      };
      for (const [key, can] of Object.entries(usable)) setDisabled(this.buttons[key], !can);
      this.buttons.again.hidden = !isOwn;
      setText(this.network, run.network ? aboutText(run) : "");
      setText(this.state, this.stateText(run));
      this.showValues(run);
      if (run.error) setText(this.error, run.error);
      this.showSettings(run);
      this.showPace(run);
      const findings = run.diagnosis || [];
      this.noFindings.hidden = findings.length > 0;
      const texts = findings.join("\n");
      if (texts !== this.findingTexts) {
        this.findingTexts = texts;
        this.findings.replaceChildren(...findings.map((text) => element("li", { textContent: text })));
      }
      if (run.weights) this.drawWeights(run);
      this.drawConfusion(run);
      this.drawMistakes(run);
      this.ask();
    }

    stateText(run) {
      if (run.status === "waiting") return run.error ? "" : "Preparing: data, network, kernels ...";
      const words = { running: "Training", paused: "Paused", ended: { epochs: "Ended", early: "Stopped early", callback: "Stopped",
        diverged: "Diverged", interrupted: "Interrupted", failed: "Failed" }[run.stopped] || "Ended" };
      const word = run.stopping && run.status === "running" ? "Stopping after this epoch" : words[run.status];
      return `${word}: epoch ${run.epoch} of ${run.epochs}, batch ${run.batch} of ${run.batches}`;
    }

    /** Show the numbers of the running epoch; between two epochs, those of the last one. */
    showValues(run) {
      const last = run.last || {}, of = (name) => run[name] ?? last[name] ?? null;
      const percent = (value) => (value == null ? "\u2013" : `${(100 * value).toFixed(2)} %`);
      const loss = of("loss");
      setText(this.values.loss, loss === null ? "\u2013" : loss.toFixed(4));
      setText(this.values.accuracy, percent(of("accuracy")));
      setText(this.values.validation, percent(last.validation_accuracy));
      setText(this.values.speed, run.samples_per_second ? Math.round(run.samples_per_second).toLocaleString("en") : "\u2013");
    }

    figure(key, shape, make) {
      const old = this.figures.get(key);
      if (old && old.shapeKey === shape) return old;
      old?.remove();
      const made = make();
      made.shapeKey = shape;
      this.figures.set(key, made);
      return made;
    }

    drawWeights({ weights }) {
      if (weights.data === this.weightData) return;
      this.weightData = weights.data;
      const [count, height, width] = weights.shape, isMatrix = weights.kind === "matrix";
      const item = weights.kind === "filters" ? "filter" : "unit";
      const shown = isMatrix ? height : count;
      const some = shown < weights.count ? `the first ${shown} of ${weights.count}` : `all ${weights.count}`;
      const figure = this.figure("weights", weights.shape.join(), () => new Figures.Images(this.hosts.weights, {
        title: "Weights of the first layer", note: `Blue is positive, orange negative: ${some} ${item}s.`, quantity: "weight",
        item: (index) => `${item} ${index}`, size: isMatrix ? 400 : 64,
        place: isMatrix ? (image, row, column) => `unit ${row}, input ${column}` : undefined,
      }));
      figure.draw({ values: halves(weights.data), count, height, width });
    }

    drawConfusion(run) {
      this.hosts.confusion.hidden = !run.confusion;
      if (!run.confusion || run.confusion === this.confusion) return;
      this.confusion = run.confusion;
      const { classes } = run, size = classes.length;
      if (size <= MOST_IN_TABLE) {
        this.drawConfusionTable(run);
        return;
      }
      const figure = this.figure("confusion", `${this.number} ${classes.join()}`, () => new Figures.Images(this.hosts.confusion, {
        title: "Confusion matrix", note: "Rows are true classes, columns predictions, on the validation data. " +
          "The mistakes are coloured; the diagonal counts what is correct.", quantity: "samples", colours: "ink",
        size: Math.min(320, 32 * size),
        place: (image, row, column) => `true ${classes[row]}, predicted ${classes[column]}`,
      }));
      const values = Float64Array.from(run.confusion.flat());
      let most = 1;
      values.forEach((value, cell) => { if (cell % (size + 1) && value > most) most = value; });
      figure.draw({ values, count: 1, height: size, width: size, low: 0, high: most });
    }

    /** Draw the confusion matrix as a table, whose cells stay while their numbers change. */
    drawConfusionTable(run) {
      const { classes, confusion } = run, key = classes.join("\n");
      if (this.confusionKey !== key) {
        this.confusionKey = key;
        this.makeConfusionTable(classes);
      }
      const most = { right: 1, wrong: 1 }, kindOf = (row, column) => (row === column ? "right" : "wrong");
      confusion.forEach((counts, row) => counts.forEach((count, column) => {
        const kind = kindOf(row, column);
        most[kind] = Math.max(most[kind], count);
      }));
      confusion.forEach((counts, row) => counts.forEach((count, column) => {
        const cell = this.confusionCells[row][column], kind = kindOf(row, column);
        setText(cell, count.toLocaleString("en-US"));
        cell.className = count ? `${kind}-answer` : "";
        cell.style.setProperty("--share", `${8 + (40 * count) / most[kind]}%`);
      }));
    }

    makeConfusionTable(classes) {
      const header = (name, scope) => {
        const cell = element("th", { textContent: name });
        cell.scope = scope;
        return cell;
      };
      this.confusionCells = classes.map(() => classes.map(() => element("td")));
      const head = element("thead", {}, element("tr", {}, element("td"), ...classes.map((name) => header(name, "col"))));
      const rows = classes.map((name, row) => element("tr", {}, header(name, "row"), ...this.confusionCells[row]));
      const title = element("h4", { textContent: "Confusion matrix", id: `confusion-${this.name}` });
      const note = element("p", { className: "soft", textContent: "On the validation data. Rows: true class. Columns: " +
        "predicted class. Blue: correct. Orange: wrong. Each colour has its own scale." });
      const table = element("table", {}, head, element("tbody", {}, ...rows));
      table.setAttribute("aria-labelledby", title.id);
      const region = element("div", { className: "wide confusion", tabIndex: 0 }, table);
      region.setAttribute("role", "region");
      region.setAttribute("aria-label", `Confusion matrix of run ${this.name}`);
      this.hosts.confusion.replaceChildren(title, note, region);
    }

    drawMistakes(run) {
      const mistakes = run.mistakes || [], key = JSON.stringify([run.validation_digest, mistakes]);
      this.mistakesTitle.hidden = !run.mistakes;
      setText(this.mistakesTitle, mistakes.length ? `Worst mistakes: ${mistakes.length} of ${counted(wrongOf(run))}`
        : "No mistakes on the validation data");
      if (key === this.mistakeKey) return;
      this.mistakeKey = key;
      const held = this.mistakes.contains(document.activeElement) ? document.activeElement.dataset.at : null;
      this.mistakes.replaceChildren(...mistakes.map((mistake, at) => this.mistakeItem(run, mistake, at)));
      if (held !== null) this.mistakes.querySelectorAll("button")[Math.min(held, mistakes.length - 1)]?.focus();
    }

    mistakeItem(run, mistake, at) {
      const [predicted, truth] = [run.classes[mistake.predicted], run.classes[mistake.true]];
      const button = element("button", { type: "button" });
      button.dataset.at = String(at);
      let image = null;
      if (mistake.image) {
        image = bytes(mistake.image);
        const canvas = element("canvas", { className: "thumbnail" });
        canvas.setAttribute("aria-hidden", "true");
        Figures.thumbnail(canvas, image, ...run.image_shape);
        button.append(canvas);
      }
      for (const text of [`label ${truth}`, `read as ${predicted}`, Figures.percent(mistake.probability)]) {
        button.append(element("span", { textContent: text }));
      }
      button.setAttribute("aria-label", `predicted ${predicted} with ${Figures.percent(mistake.probability)}, is ${truth}: ask the network`);
      button.addEventListener("click", () => {
        question = { sample: mistake.row, data: run.validation_digest };
        setText(byId("asked"), `Asked: sample ${mistake.row} of the validation data, label ${truth}.`);
        showAsked(image, run.image_shape);
        for (const column of columns.values()) column.ask(true);
        showAnswers();
      });
      return element("li", {}, button);
    }

    // ---- the answer

    makeFormula(name) {
      this.layer = element("select", { ariaLabel: `Layer of the unit, run ${name}` });
      this.unit = element("input", { type: "number", min: "0", value: "0", ariaLabel: `Number of the unit, run ${name}` });
      this.formulaOut = element("div", { className: "wide" });
      for (const field of [this.layer, this.unit]) field.addEventListener("input", () => this.ask(true));
      const made = element("details", {}, element("summary", { textContent: "The formula of a unit" }),
        element("div", { className: "unit" }, element("label", {}, "Layer ", this.layer), element("label", {}, "Unit ", this.unit)),
        this.formulaOut);
      made.addEventListener("toggle", () => this.ask(true));
      return made;
    }

    showLayers(run) {
      const key = run.layers.map(({ name, units }) => `${name} ${units}`).join();
      if (key === this.layerKey) return;
      this.layerKey = key;
      this.layer.replaceChildren(...run.layers.map(({ name, units }, index) =>
        element("option", { value: String(index + 1), textContent: `${index + 1} (${units} ${name}s)` })));
    }

    /** Ask the newest network, once at a time: if something has changed meanwhile, once more. */
    async ask(isNew = false) {
      const run = this.run;
      if (!run || !run.layers) { // it is being prepared
        if (isNew || run?.error) this.clearAnswer("");
        return;
      }
      if (!question || (question.data !== undefined && question.data !== run.validation_digest)) {
        this.asked = "";
        this.clearAnswer(question ? "The validation data of this run do not have the sample." : "");
        return;
      }
      const asked = `${run.number} ${run.epoch} ${run.batch} ${run.status}`;
      if (this.asking) {
        this.askAgain = true;
        return;
      }
      if (!isNew && asked === this.asked) return;
      this.asked = asked;
      this.asking = true;
      this.showLayers(run);
      const { drawing, sample } = question, current = question;
      const request = { run: this.place, ...(drawing ? { drawing } : { sample }) };
      if (this.formula.open) request.unit = [Number(this.layer.value), Math.max(0, Math.trunc(Number(this.unit.value)) || 0)];
      try {
        const answer = await ask("/predict", request);
        if (current === question && answer.run === this.run.number) this.showAnswer(run, answer);
      } catch (error) {
        this.clearAnswer(error.message);
      }
      this.asking = false;
      if (this.askAgain) {
        this.askAgain = false;
        this.ask(true);
      }
    }

    clearAnswer(reason) {
      this.figures.get("answer")?.element.remove();
      this.figures.delete("answer");
      setText(this.answerText, reason);
      this.formulaOut.replaceChildren();
    }

    showAnswer(run, { outputs, formula }) {
      const { classes } = run;
      if (classes.length === outputs.length) {
        const best = outputs.indexOf(Math.max(...outputs));
        setText(this.answerText, `${classes[best]}, with ${Figures.percent(outputs[best])}`);
        const old = this.figures.get("answer");
        if (!old || old.shapeKey !== classes.join()) {
          old?.element.remove();
          const made = new Figures.Probabilities(this.answerHost, { names: classes, title: "Probabilities" });
          made.shapeKey = classes.join();
          this.figures.set("answer", made);
        }
        this.figures.get("answer").draw(outputs, { answer: best });
      } else {
        setText(this.answerText, outputs.map((value) => (value === null ? "not finite" : Figures.format(value, 6))).join(", "));
      }
      if (this.formula.open && formula) this.showFormula(formula);
    }

    showFormula(formula) {
      const number = (value) => (value === null ? "not finite" : Figures.format(value, 4));
      const cells = (texts) => element("tr", {}, ...texts.map((text, k) =>
        element(k ? "td" : "th", k ? { textContent: text } : { textContent: text, scope: "row" })));
      if (!formula.terms) {
        this.formulaOut.replaceChildren(element("p", { textContent: `${formula.name}: ${number(formula.output)}, without a weighted sum (${formula.kind}).` }));
        return;
      }
      const head = element("tr", {}, ...["term", "input", "weight", "product"].map((text) => element("th", { textContent: text, scope: "col" })));
      const rows = formula.terms.map(([name, inp, weight, product]) => cells([name, number(inp), number(weight), number(product)]));
      const [others, rest] = formula.others;
      if (others) rows.push(cells([`${others} other products`, "", "", number(rest)]));
      rows.push(cells(["bias", "", "", number(formula.bias)]), cells(["sum", "", "", number(formula.sum)]));
      const activation = formula.activation === "identity" ? "sum" : `${formula.activation}(${number(formula.sum)})`;
      rows.push(cells([`output = ${activation}`, "", "", number(formula.output)]));
      const hasPlaces = this.run.image_shape && formula.terms.some(([name]) => /\(-?\d+, -?\d+\)$/.test(name));
      const places = hasPlaces ? ". Places are (row, column), from (0, 0)." : "";
      this.formulaOut.replaceChildren(element("table", {}, element("caption", { textContent: `${formula.name}: input * weight + ... + bias${places}` }),
        element("thead", {}, head), element("tbody", {}, ...rows)));
    }

    // ---- the code

    async showCode() {
      let found;
      try {
        found = await ask(`/code?run=${this.place}`);
      } catch (error) {
        this.codeOut.replaceChildren(element("p", { className: "error", textContent: error.message }));
        return;
      }
      const parts = [];
      const block = (title, text, css) => {
        const pre = element("pre", { textContent: text, tabIndex: 0, className: css, ariaLabel: title });
        pre.setAttribute("role", "region");
        parts.push(element("h4", { textContent: title }), pre);
      };
      if (found.command) {
        block("Command line", found.command, "command");
        if (found.stopped_after) {
          parts.push(element("p", { className: "soft", textContent: `It runs all epochs. This run was stopped after epoch ${found.stopped_after}, as the Python code does.` }));
        }
      } else if (this.run.settings) {
        parts.push(element("p", { className: "soft", textContent: "The options of the command cannot express these settings." }));
      }
      block("Python", found.python, "python");
      parts.push(element("p", { className: "soft digest", textContent: found.digest
        ? `Digest of this run: ${found.digest}` : "The digest is known when the run has ended." }));
      this.codeOut.replaceChildren(...parts);
    }
  }

  // ---- the page

  function setText(node, text) {
    if (node.textContent !== text) node.textContent = text;
  }

  /** A button that becomes disabled would lose the focus: it goes to the next one that can do something. */
  function setDisabled(button, disabled) {
    if (button.disabled === disabled) return;
    const had = document.activeElement === button;
    button.disabled = disabled;
    if (had && disabled) button.parentElement.dataset.lost = "yes";
    if (!disabled && button.parentElement.dataset.lost) {
      delete button.parentElement.dataset.lost;
      if (document.activeElement === document.body) button.focus();
    }
  }

  const counted = (count) => count.toLocaleString("en-US");

  /** Return what is trained on what, in words. */
  function aboutText(run) {
    const validation = run.n_validation ? `, ${counted(run.n_validation)} for validation` : "";
    return `${run.network}, backend ${run.backend}. ${run.data}: ${counted(run.n_samples)} samples to train on${validation}.`;
  }

  /** Return the number of mistakes on the validation data. */
  function wrongOf({ confusion }) {
    return confusion.flatMap((counts, row) => counts.filter((count, column) => column !== row)).reduce((a, b) => a + b, 0);
  }

  const HALF = (() => {
    const table = new Float32Array(65536);
    for (let bits = 0; bits < 65536; bits++) {
      const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
      table[bits] = exponent === 31 ? (fraction ? NaN : sign * Infinity)
        : sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction);
    }
    return table;
  })();

  /** @param {string} text base64 @returns {Uint8Array} */
  function bytes(text) {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  }

  /** @param {string} text base64 of float16 @returns {Float32Array} */
  function halves(text) {
    const found = bytes(text), values = new Float32Array(found.length / 2);
    for (let i = 0; i < values.length; i++) values[i] = HALF[found[2 * i] | (found[2 * i + 1] << 8)];
    return values;
  }

  /** Show what is asked as the network gets it; null for nothing. */
  function showAsked(image, shape) {
    const canvas = /** @type {HTMLCanvasElement} */ (byId("asked-image"));
    canvas.hidden = !image;
    if (image) Figures.thumbnail(canvas, image, ...shape);
  }

  /** Scroll to the answers: beside the pad, or below what is asked. */
  function showAnswers() {
    const isBelow = !byId("pad-column").hidden && byId("answers").getBoundingClientRect().top >= byId("pad").getBoundingClientRect().bottom;
    byId(isBelow ? "asked" : "draw").scrollIntoView({ block: "start" });
  }

  function drawn() {
    if (pad.isEmpty) {
      question = null;
      setText(byId("asked"), "Draw a digit, or choose a mistake below. The answers follow the networks as they learn.");
      showAsked(null);
    } else {
      try {
        const row = Pictures.prepareImage(pad.pixels());
        question = { drawing: Array.from(row) };
        setText(byId("asked"), "Asked: the drawing, prepared as the images of MNIST are:");
        showAsked(row, [28, 28]);
      } catch (error) {
        if (!(error instanceof Pictures.DataError)) throw error;
        question = null;
        setText(byId("asked"), error.message);
        showAsked(null);
      }
    }
    for (const column of columns.values()) column.ask(true);
  }

  function draw() {
    frame = 0;
    const { runs } = newest;
    let hadFocus = false;
    for (const [place, column] of columns) {
      if (place >= runs.length) {
        hadFocus ||= column.runs.contains(document.activeElement);
        column.close();
        columns.delete(place);
      }
    }
    runs.forEach((run, place) => {
      if (!columns.has(place)) {
        const column = new Column(place);
        [column.number, column.points] = [run.number, run.points];
        columns.set(place, column);
      }
      columns.get(place).draw(run);
    });
    offerNames();
    byId("second").hidden = runs.length !== 1 || !runs[0].settings;
    if (hadFocus) byId("second").focus();
    if (isRunAwaited && columns.has(1)) {
      isRunAwaited = false;
      columns.get(1).show();
    }
    byId("pad-column").hidden = !runs.some((run) => run.image_shape);
    charts[1].element.hidden = !runs.some((run) => !run.classes || run.classes.length); // numbers have no accuracy
    const kinds = [["loss", 1, 3], ["accuracy", 2, 4]];
    kinds.forEach(([, training, validation], chart) => charts[chart].draw(runs.flatMap((run, place) => {
      const name = runs.length > 1 ? `${run.name} ` : "", colour = place ? "--wrong" : "--accent";
      const of = (column) => run.points.map((point) => [point[0], point[column]]);
      return [
        { name: `${name}training`, colour, isDashed: false, points: of(training) },
        ...(run.n_validation ? [{ name: `${name}validation`, colour, isDashed: true, points: of(validation) }] : []),
      ];
    })));
    showLegend(runs);
  }

  /** Offer the names of activations and optimizers to the fields of the settings. */
  function offerNames() {
    if (!form.optimizers || document.getElementById("optimizer-names")) return;
    for (const [key, names] of [["activation", form.activations], ["optimizer", form.optimizers], ["schedule", form.schedules]]) {
      const options = names.map((name) => element("option", { value: name }));
      document.body.append(element("datalist", { id: `${key}-names` }, ...options));
    }
  }

  function showLegend(runs) {
    const key = runs.map((run) => run.name + Boolean(run.n_validation)).join();
    const legend = byId("legend");
    if (legend.dataset.key === key) return;
    legend.dataset.key = key;
    const line = (css, isDashed) => element("span", { className: `line ${css}${isDashed ? " dashed" : ""}` });
    legend.replaceChildren(...runs.flatMap((run, place) => [
      line(SERIES[place], false), `run ${run.name}, training`,
      ...(run.n_validation ? [line(SERIES[place], true), `run ${run.name}, validation`] : []),
    ]));
  }

  function start() {
    pad = Drawing.attach(/** @type {HTMLCanvasElement} */ (byId("pad")), {
      onChange: drawn, onStatus: (text) => setText(byId("pad-status"), text),
    });
    byId("undo").addEventListener("click", () => pad.undo());
    byId("clear").addEventListener("click", () => pad.clear());
    byId("second").addEventListener("click", async () => {
      const { settings } = newest.runs[0];
      isRunAwaited = true;
      setText(byId("second-error"), "");
      try {
        await ask("/command", { command: "plan", run: 1, settings });
      } catch (error) {
        isRunAwaited = false;
        setText(byId("second-error"), error.message);
      }
    });
    listen();
  }

  start();
  return { ask };
})();
