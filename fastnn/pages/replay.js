"use strict";

/** The replay of a run: a slider over its snapshots, which shows the first layer's weights after each epoch. */
const Replay = (() => {
  const { element, percent } = Figures;
  const TITLES = { units: "The weights into the units of the first layer", filters: "The filters of the first layer",
    matrix: "The weights of the first layer: a row for each unit" };
  const NOTE = "A unit responds most where inputs are large under blue weights and small under orange ones.";

  /** Return the numbers of a snapshot: int8 in base64, times its scale. */
  function decode(/** @type {string} */ data, /** @type {number} */ scale) {
    const bytes = atob(data), values = new Float32Array(bytes.length);
    for (let i = 0; i < bytes.length; i++) values[i] = ((bytes.charCodeAt(i) << 24) >> 24) * scale;
    return values;
  }

  /** Return an epoch and its metrics in words. */
  function words(/** @type {any} */ epoch, /** @type {number} */ last) {
    if (!epoch.number) return "Before training: the weights are random.";
    const parts = [`Epoch ${epoch.number} of ${last}`];
    if (epoch.loss !== null) parts.push(`loss ${epoch.loss.toFixed(4)}`);
    if (epoch.validationLoss !== null) parts.push(`validation loss ${epoch.validationLoss.toFixed(4)}`);
    if (epoch.validationAccuracy !== null) parts.push(`validation accuracy ${percent(epoch.validationAccuracy)}`);
    return `${parts.join(", ")}.`;
  }

  class Show {
    /**
     * @param {HTMLElement} host
     * @param {{kind: string, count: number, height: number, width: number, limit: number, epochs: any[]}} content
     *   what fastnn.pages.replay has written
     */
    constructor(host, content) {
      this.content = content;
      const last = content.epochs.length - 1;
      this.slider = element("input", { type: "range", min: "0", max: String(last), step: "1", id: "replay-epoch" });
      const label = element("label", { textContent: "Epoch" });
      label.htmlFor = "replay-epoch";
      this.text = element("p", { className: "note" });
      this.text.setAttribute("role", "status");
      host.append(element("p", { className: "replay" }, label, " ", this.slider), this.text);
      this.figure = new Figures.Images(host, { title: TITLES[content.kind], note: NOTE, quantity: "weight",
        size: content.kind === "filters" ? 72 : 64, item: (/** @type {number} */ index) => `unit ${index}` });
      this.slider.addEventListener("input", () => this.show(Number(this.slider.value)));
      this.slider.value = String(last);
      this.show(last);
    }

    /** Show a snapshot, by its place among them. */
    show(/** @type {number} */ index) {
      const { count, height, width, limit, epochs } = this.content, epoch = epochs[index];
      const sentence = words(epoch, epochs[epochs.length - 1].number);
      this.text.textContent = sentence;
      this.slider.setAttribute("aria-valuetext", sentence);
      this.figure.draw({ values: decode(epoch.data, epoch.scale), count, height, width, limit });
    }
  }

  const data = document.getElementById("replay-data");
  return { Show, show: data && new Show(document.getElementById("replay"), JSON.parse(data.textContent)) };
})();
