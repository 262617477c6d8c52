/** Which model captions: asked of the server, chosen on the page. */

import { listModels } from "./api.js";

export class Models {
  #select;
  #models = [];
  #onChange;
  #onLost;

  /**
   * `onChange()` is told when another is chosen, and when they are loaded; `onLost(name, latest)`
   * when the server no longer has the chosen one, so that `latest` takes its place.
   */
  constructor(select, onChange, onLost) {
    this.#select = select;
    this.#onChange = onChange;
    this.#onLost = onLost;
    select.addEventListener("change", onChange);
  }

  /** As the API gives it; undefined before the first `load`. */
  get chosen() {
    return this.#models.find(({ name }) => name === this.#select.value);
  }

  /** Ask anew, and keep the choice where it is still there. */
  async load() {
    const models = await listModels();
    if (JSON.stringify(models) === JSON.stringify(this.#models)) return; // an open menu stays open
    const before = this.chosen?.name;
    const usual = models.find((model) => model.default) ?? models[0];
    const kept = models.find(({ name }) => name === before) ?? usual;
    this.#models = models;
    const options = models.map(({ name, decoder, encoder }) => {
      return new Option(`${name} (${decoder}, ${encoder})`, name, false, name === kept.name);
    });
    this.#select.replaceChildren(...options);
    this.#select.disabled = models.length < 2;
    this.#onChange();
    if (![undefined, kept.name].includes(before)) this.#onLost(before, kept.name);
  }
}
