/** Which model captions: asked of the server, chosen on the page. */

import { listModels } from "./api.js";

export class Models {
  #select;
  #models = [];

  /** `onChoose()` is told when another is chosen. */
  constructor(select, onChoose) {
    this.#select = select;
    select.addEventListener("change", onChoose);
  }

  /** As the API gives it; undefined before the first `load`. */
  get chosen() {
    return this.#models.find(({ name }) => name === this.#select.value);
  }

  /** Ask anew, and keep the choice where it is still there. */
  async load() {
    const models = await listModels();
    const usual = models.find((model) => model.default) ?? models[0];
    const kept = models.find(({ name }) => name === this.chosen?.name) ?? usual;
    this.#models = models;
    const options = models.map(({ name, decoder, encoder }) => {
      return new Option(`${name} (${decoder}, ${encoder})`, name, false, name === kept.name);
    });
    this.#select.replaceChildren(...options);
    this.#select.disabled = models.length < 2;
  }
}
